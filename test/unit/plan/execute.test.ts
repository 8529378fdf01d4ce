import { describe, expect, test } from 'vitest';
import { TsvError } from '../../../src/model/errors.ts';
import type { TsvEvent } from '../../../src/model/events.ts';
import type { Plan, PlanNode } from '../../../src/model/plan.ts';
import { type ExecuteOptions, execute, executionError } from '../../../src/plan/execute.ts';
import { random, seeds } from './random.ts';

/** A plan of machine starts: `node('a', 1, 2)` is named a and comes after nodes 1 and 2. */
const node = (machine: string, ...after: number[]) => ({ machine, after });
function planOf(...parts: { machine: string; after: number[] }[]): Plan {
  return {
    nodes: parts.map(({ machine, after }, index) => ({
      id: index + 1,
      action: { do: 'machine.start', machine },
      cause: 'new',
      after,
    })),
  };
}

function randomPlan(seed: number): Plan {
  const { below, chance } = random(seed);
  const size = 1 + below(25);
  return planOf(
    ...Array.from({ length: size }, (_, index) =>
      node(
        `m${index + 1}`,
        ...Array.from({ length: index }, (_, other) => other + 1).filter(() => chance(2.5 / (index + 1))),
      ),
    ),
  );
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

interface Trace {
  readonly events: TsvEvent[];
  readonly journal: string[];
}

function start(plan: Plan, run: ExecuteOptions['run'], options: { parallel?: number; signal?: AbortSignal } = {}) {
  const trace: Trace = { events: [], journal: [] };
  const result = execute(plan, {
    run,
    journal: (step, phase, error) => {
      trace.journal.push(`${step}: ${phase}${error === undefined ? '' : ` (${error})`}`);
    },
    emit: (event) => {
      trace.events.push(event);
    },
    parallel: options.parallel ?? 4,
    signal: options.signal ?? new AbortController().signal,
  });
  return { trace, result };
}

const outcomes = (steps: readonly { outcome: string }[]) => steps.map(({ outcome }) => outcome).join(' ');
const broken = (name: string) =>
  new TsvError('TSV_WAIT', `${name} is broken`, { details: ['line 1'], hint: 'mend it' });

/** All nodes that come after one of `roots`, directly or not. */
function dependents(plan: Plan, roots: ReadonlySet<number>): Set<number> {
  const found = new Set<number>();
  for (const { id, after } of plan.nodes)
    if (after.some((other) => roots.has(other) || found.has(other))) found.add(id);
  return found;
}

describe('execute', () => {
  test('random plans: every step runs once, after all it depends on, never more at once than allowed', async () => {
    for (const seed of seeds(150)) {
      const plan = randomPlan(seed);
      const { below } = random(seed + 1000);
      const parallel = 1 + below(5);
      const ended = new Set<number>();
      let now = 0;
      let most = 0;
      const { result } = start(
        plan,
        async ({ id, after }) => {
          expect(after.every((other) => ended.has(other))).toBe(true);
          now++;
          most = Math.max(most, now);
          for (let turns = below(4); turns > 0; turns--) await turn();
          now--;
          expect(ended.has(id)).toBe(false);
          ended.add(id);
        },
        { parallel },
      );
      const { steps, cancelled } = await result;
      expect({ seed, done: steps.filter(({ outcome }) => outcome === 'done').length }).toEqual({
        seed,
        done: plan.nodes.length,
      });
      expect(ended.size).toBe(plan.nodes.length);
      expect(most).toBeLessThanOrEqual(parallel);
      expect(cancelled).toBe(false);
    }
  });

  test('random plans with failures: exactly the dependents of failed steps are skipped, all else is done', async () => {
    for (const seed of seeds(150)) {
      const plan = randomPlan(seed);
      const { below, chance } = random(seed + 2000);
      const bad = new Set(plan.nodes.filter(() => chance(0.2)).map(({ id }) => id));
      const { result } = start(plan, async ({ id }) => {
        for (let turns = below(3); turns > 0; turns--) await turn();
        if (bad.has(id)) throw broken(`m${id}`);
      });
      const { steps } = await result;
      const of = (outcome: string) => steps.filter((step) => step.outcome === outcome).map((step) => step.node.id);
      const skipped = dependents(plan, bad);
      expect({ seed, skipped: of('skipped') }).toEqual({ seed, skipped: [...skipped] });
      expect(of('failed')).toEqual([...bad].filter((id) => !skipped.has(id)));
      expect(of('done')).toHaveLength(plan.nodes.length - of('skipped').length - of('failed').length);
    }
  });

  test('random plans interrupted at a random step: what ran is told from what did not', async () => {
    for (const seed of seeds(150)) {
      const plan = randomPlan(seed);
      const { below } = random(seed + 3000);
      const fatal = 1 + below(plan.nodes.length);
      const controller = new AbortController();
      const begun = new Set<number>();
      const { result } = start(
        plan,
        async ({ id }, { signal }) => {
          expect(signal.aborted).toBe(false);
          begun.add(id);
          if (id === fatal) controller.abort();
          await turn();
          signal.throwIfAborted();
        },
        { signal: controller.signal },
      );
      const { steps, cancelled } = await result;
      expect({ seed, cancelled }).toEqual({ seed, cancelled: true });
      for (const { node, outcome } of steps) {
        expect(['done', 'cancelled']).toContain(outcome);
        if (outcome === 'done') expect(begun.has(node.id)).toBe(true);
      }
    }
  });

  test('ready steps start in the order of their ids', async () => {
    const begun: number[] = [];
    const { result } = start(
      planOf(node('a'), node('b'), node('c', 1), node('d')),
      async ({ id }) => {
        begun.push(id);
        await turn();
      },
      { parallel: 1 },
    );
    await result;
    expect(begun).toEqual([1, 2, 3, 4]);
  });

  test('an empty plan is done at once', async () => {
    const { result } = start({ nodes: [] }, async () => {});
    expect(await result).toEqual({ steps: [], cancelled: false });
    expect(executionError(await result)).toBeUndefined();
  });

  test('events and journal tell each step before and after it runs', async () => {
    const { trace, result } = start(planOf(node('a'), node('b', 1), node('c', 2)), async ({ id }, { progress }) => {
      progress(`at ${id}`);
      if (id === 2) throw broken('b');
    });
    await result;
    expect(trace.journal).toEqual([
      'machine.start a: start',
      'machine.start a: done',
      'machine.start b: start',
      'machine.start b: failed (b is broken)',
    ]);
    const seen = trace.events.map((event) => (event.type === 'step.end' ? { ...event, ms: 0 } : event));
    expect(seen).toEqual([
      { type: 'step.start', id: 1 },
      { type: 'step.progress', id: 1, text: 'at 1' },
      { type: 'step.end', id: 1, outcome: 'done', ms: 0 },
      { type: 'step.start', id: 2 },
      { type: 'step.progress', id: 2, text: 'at 2' },
      { type: 'step.end', id: 2, outcome: 'failed', ms: 0, error: broken('b').toJSON() },
      { type: 'step.end', id: 3, outcome: 'skipped', ms: 0 },
    ]);
  });

  test('a step that throws before its first await is a failed step like any other', async () => {
    const { result } = start(planOf(node('a')), () => {
      throw new RangeError('odd');
    });
    const { steps } = await result;
    expect(steps[0]?.error).toMatchObject({ code: 'TSV_INTERNAL', message: 'odd' });
  });

  test('a journal that cannot be written is one warning and stops nothing', async () => {
    const events: TsvEvent[] = [];
    const { steps } = await execute(planOf(node('a'), node('b')), {
      run: async () => {},
      journal: () => {
        throw new Error('ENOSPC');
      },
      emit: (event) => {
        events.push(event);
      },
      parallel: 1,
      signal: new AbortController().signal,
    });
    expect(outcomes(steps)).toBe('done done');
    expect(events.filter(({ type }) => type === 'warning')).toEqual([
      { type: 'warning', text: 'the journal cannot be written: ENOSPC' },
    ]);
  });

  test('a signal that fired before the start cancels everything and runs nothing', async () => {
    const { trace, result } = start(planOf(node('a'), node('b', 1)), async () => {}, { signal: AbortSignal.abort() });
    const { steps } = await result;
    expect(outcomes(steps)).toBe('cancelled cancelled');
    expect(trace.journal).toEqual([]);
  });

  test('a step that finishes in spite of the signal counts as done', async () => {
    const controller = new AbortController();
    const { result } = start(
      planOf(node('a'), node('b', 1)),
      async () => {
        controller.abort();
      },
      { signal: controller.signal },
    );
    expect(outcomes((await result).steps)).toBe('done cancelled');
  });
});

describe("a step's undo stack", () => {
  const run =
    (log: string[], fail: boolean): ExecuteOptions['run'] =>
    async (_: PlanNode, { undo }) => {
      undo.add('bridge', () => {
        log.push('bridge');
      });
      undo.add('address', () => {
        log.push('address');
        throw new Error('busy');
      });
      undo.add('route', async () => {
        await turn();
        log.push('route');
      });
      if (fail) throw broken('network');
    };

  test('is run in reverse when the step fails, all of it, and says what it could not undo', async () => {
    const log: string[] = [];
    const { result } = start(planOf(node('a')), run(log, true));
    const { steps } = await result;
    expect(log).toEqual(['route', 'address', 'bridge']);
    expect(steps[0]?.error).toMatchObject({
      code: 'TSV_WAIT',
      hint: 'mend it',
      details: ['line 1', 'could not be undone: address: busy'],
    });
  });

  test('is dropped when the step succeeds', async () => {
    const log: string[] = [];
    await start(planOf(node('a')), run(log, false)).result;
    expect(log).toEqual([]);
  });
});

describe('the error that a command ends with', () => {
  const errorOf = async (plan: Plan, bad: readonly string[], signal?: AbortSignal) =>
    executionError(
      await start(
        plan,
        async ({ action }) => {
          if (action.do === 'machine.start' && bad.includes(action.machine)) throw broken(action.machine);
        },
        signal === undefined ? {} : { signal },
      ).result,
    );

  test('one failed step: its own code and hint, and what was not done because of it', async () => {
    const error = await errorOf(planOf(node('a'), node('b', 1), node('c')), ['a']);
    expect(error?.toJSON()).toEqual({
      code: 'TSV_WAIT',
      message: 'a is broken',
      details: ['line 1', 'not done because of that: machine.start b'],
      hint: 'mend it',
      exitCode: 1,
    });
  });

  test('several failed steps: all of them, each with its details and hint', async () => {
    const error = await errorOf(planOf(node('a'), node('b'), node('c', 2)), ['a', 'b']);
    expect(error).toMatchObject({
      code: 'TSV_STEPS_FAILED',
      message: '2 of 3 steps failed',
      details: [
        'machine.start a: a is broken',
        '  line 1',
        '  hint: mend it',
        'machine.start b: b is broken',
        '  line 1',
        '  hint: mend it',
        'not done because of that: machine.start c',
      ],
      exitCode: 1,
    });
  });

  test('an interruption: exit code 130', async () => {
    const error = await errorOf(planOf(node('a'), node('b')), [], AbortSignal.abort());
    expect(error).toMatchObject({ code: 'TSV_CANCELLED', message: 'interrupted after 0 of 2 steps', exitCode: 130 });
  });
});
