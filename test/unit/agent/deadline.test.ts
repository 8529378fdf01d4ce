import { describe, expect, test } from 'vitest';
import { Deadline } from '../../../src/agent/deadline.ts';
import { TsvError } from '../../../src/model/errors.ts';
import type { Action, PlanNode } from '../../../src/model/plan.ts';
import { execute, executionError } from '../../../src/plan/execute.ts';

const never = new AbortController().signal;
const untilAborted = (signal: AbortSignal): Promise<void> =>
  new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }));

/** What becomes of a plan of these actions, all at once, each of which ends only when it is told to. */
async function failure(ms: number, actions: readonly Action[], work = untilAborted): Promise<TsvError | undefined> {
  const deadline = new Deadline(ms);
  const nodes = actions.map((action, index): PlanNode => ({ id: index + 1, action, cause: '', after: [] }));
  const result = await execute(
    { nodes },
    {
      run: ({ action }, { signal }) => deadline.hold(action, signal, work),
      journal: () => {},
      emit: () => {},
      parallel: 8,
      signal: never,
    },
  );
  const error = executionError(result);
  deadline.close();
  return error && deadline.summary(result, error);
}

describe('a limit for all waits', () => {
  test('names the one that was missing', async () => {
    expect(await failure(1, [{ do: 'machine.healthy', machine: 'db' }])).toMatchObject({
      code: 'TSV_WAIT',
      message: 'db was not healthy within 0.001 s',
    });
  });

  test('names all that were missing in one error', async () => {
    const waits: Action[] = [
      { do: 'machine.wait', machine: 'vm' },
      { do: 'machine.completed', machine: 'migrate' },
    ];
    expect(await failure(1, waits)).toMatchObject({
      code: 'TSV_WAIT',
      message: 'not everything was ready within 0.001 s',
      details: ['vm could not be reached', 'migrate had not completed'],
    });
  });

  test('does not end a step that does something', async () => {
    const deadline = new Deadline(1);
    await deadline.hold({ do: 'machine.wait', machine: 'a' }, never, untilAborted).catch(() => {});
    let seen: AbortSignal | undefined;
    await deadline.hold({ do: 'machine.provision', machine: 'a', step: 's' }, never, async (signal) => {
      seen = signal;
    });
    expect(seen?.aborted).toBe(false);
  });

  test('leaves other errors as they are', async () => {
    const broken = async () => {
      throw new TsvError('TSV_UNHEALTHY', 'db is not healthy');
    };
    expect(await failure(1_000_000, [{ do: 'machine.healthy', machine: 'db' }], broken)).toMatchObject({
      code: 'TSV_UNHEALTHY',
    });
  });
});
