import { PassThrough, Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { waitHealthy } from '../../../src/agent/health.ts';
import type { Healthcheck, Machine } from '../../../src/model/project.ts';
import type { ExecResult, Transport } from '../../../src/model/provider.ts';

const never = new AbortController().signal;
const machine = (check: Partial<Healthcheck>): Machine =>
  ({
    name: 'db',
    healthcheck: {
      exec: ['mysqladmin', 'ping'],
      everyMs: 1,
      timeoutMs: 10_000,
      retries: 3,
      startPeriodMs: 0,
      ...check,
    },
  }) as unknown as Machine;

/** A way into a machine whose check answers as the list says, one entry per try; the last one for ever. */
const answering = (...answers: readonly ({ code: number; text?: string } | 'silent')[]) => {
  const killed: string[] = [];
  let tries = 0;
  const transport = {
    exec: async () => {
      const answer = answers[Math.min(tries++, answers.length - 1)] ?? 'silent';
      let end: (result: ExecResult) => void = () => {};
      const exited = new Promise<ExecResult>((resolve) => {
        end = resolve;
      });
      const stdout = Readable.from(answer === 'silent' ? [] : [Buffer.from(answer.text ?? '')]);
      if (answer !== 'silent') stdout.once('end', () => end({ code: answer.code }));
      const signal = (name: string) => {
        killed.push(name);
        setImmediate(() => end({ code: 137, signal: name })); // the end of a process is learned later
      };
      return { stdin: new PassThrough(), stdout, stderr: Readable.from([]), exited, signal, resize: () => {} };
    },
  } as unknown as Transport;
  return { transport, killed, tries: () => tries };
};

describe('a health check', () => {
  test('ends with the first success', async () => {
    const { transport, tries } = answering({ code: 1 }, { code: 1 }, { code: 0 });
    await waitHealthy(machine({}), transport, never);
    expect(tries()).toBe(3);
  });

  test('gives up after so many failures, with the check, its exit code and its last words', async () => {
    const { transport, tries } = answering({ code: 7, text: 'a\nno database\n' });
    await expect(waitHealthy(machine({}), transport, never)).rejects.toMatchObject({
      code: 'TSV_UNHEALTHY',
      message: "db is not healthy: 'mysqladmin ping' failed 3 times",
      details: ['exit code 7', 'a', 'no database'],
      hint: 'tsv exec db -- mysqladmin ping',
    });
    expect(tries()).toBe(3);
  });

  test('does not count failures in the start period', async () => {
    const { transport, tries } = answering(
      { code: 1 },
      { code: 1 },
      { code: 1 },
      { code: 1 },
      { code: 1 },
      { code: 0 },
    );
    await waitHealthy(machine({ startPeriodMs: 1_000_000, retries: 1 }), transport, never);
    expect(tries()).toBe(6);
  });

  test('kills a check that does not answer, and counts it as a failure', async () => {
    const { transport, killed } = answering('silent');
    await expect(waitHealthy(machine({ timeoutMs: 5, retries: 2 }), transport, never)).rejects.toMatchObject({
      details: expect.arrayContaining(['no answer within 5 ms']),
    });
    expect(killed).toEqual(['KILL', 'KILL']);
  });

  test('ends when it is cancelled, in the middle of a pause', async () => {
    const abort = new AbortController();
    const { transport } = answering({ code: 1 });
    const waiting = waitHealthy(machine({ everyMs: 1_000_000 }), transport, abort.signal);
    setImmediate(() => abort.abort(new Error('interrupted')));
    await expect(waiting).rejects.toThrow();
  });

  test('that is not declared is healthy at once', async () => {
    await waitHealthy(
      { name: 'db' } as unknown as Machine,
      { exec: () => expect.fail('nothing is run') } as unknown as Transport,
      never,
    );
  });
});
