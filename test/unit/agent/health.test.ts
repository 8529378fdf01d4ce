import { PassThrough, Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { type Check, imageCheck, waitHealthy } from '../../../src/agent/health.ts';
import type { ContainerDefaults } from '../../../src/model/image.ts';
import { isolationOf, type Machine } from '../../../src/model/project.ts';
import type { ExecResult, Transport } from '../../../src/model/provider.ts';

const never = new AbortController().signal;
const check = (own: Partial<Check> = {}): Check => ({
  exec: ['mysqladmin', 'ping'],
  everyMs: 1,
  timeoutMs: 10_000,
  retries: 3,
  startPeriodMs: 0,
  ...own,
});

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
    await waitHealthy('db', check(), transport, never);
    expect(tries()).toBe(3);
  });

  test('gives up after so many failures, with the check, its exit code and its last words', async () => {
    const { transport, tries } = answering({ code: 7, text: 'a\nno database\n' });
    await expect(waitHealthy('db', check(), transport, never)).rejects.toMatchObject({
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
    await waitHealthy('db', check({ startPeriodMs: 1_000_000, retries: 1 }), transport, never);
    expect(tries()).toBe(6);
  });

  test('kills a check that does not answer, and counts it as a failure', async () => {
    const { transport, killed } = answering('silent');
    await expect(waitHealthy('db', check({ timeoutMs: 5, retries: 2 }), transport, never)).rejects.toMatchObject({
      details: expect.arrayContaining(['no answer within 5 ms']),
    });
    expect(killed).toEqual(['KILL', 'KILL']);
  });

  test('ends when it is cancelled, in the middle of a pause', async () => {
    const abort = new AbortController();
    const { transport } = answering({ code: 1 });
    const waiting = waitHealthy('db', check({ everyMs: 1_000_000 }), transport, abort.signal);
    setImmediate(() => abort.abort(new Error('interrupted')));
    await expect(waiting).rejects.toThrow();
  });
});

describe('the health check of an image', () => {
  const machine = {
    name: 'db',
    isolation: { ...isolationOf({}), user: undefined, workdir: undefined },
  } as unknown as Machine;
  const image = (
    healthcheck: ContainerDefaults['healthcheck'],
    more: Partial<ContainerDefaults> = {},
  ): ContainerDefaults => ({
    env: [],
    exposedPorts: [],
    volumes: [],
    labels: {},
    ...(healthcheck === undefined ? {} : { healthcheck }),
    ...more,
  });

  test('is a command as it is, or one for the shell', () => {
    expect(imageCheck(machine, image({ test: ['CMD', 'pg_isready', '-q'] })).exec).toEqual(['pg_isready', '-q']);
    expect(imageCheck(machine, image({ test: ['CMD-SHELL', 'pg_isready -q || exit 1'] })).exec).toEqual([
      '/bin/sh',
      '-c',
      'pg_isready -q || exit 1',
    ]);
  });

  test('runs as the user and in the folder that the container runs in', () => {
    const defaults = image({ test: ['CMD', 'true'] }, { user: 'postgres', workdir: '/var/lib/postgresql' });
    expect(imageCheck(machine, defaults)).toMatchObject({ user: 'postgres', cwd: '/var/lib/postgresql' });
    const own = { ...machine, isolation: { ...isolationOf({}), user: { user: 7, group: 'db' }, workdir: '/srv' } };
    expect(imageCheck(own, defaults)).toMatchObject({ user: '7:db', cwd: '/srv' });
    expect(imageCheck(machine, image({ test: ['CMD', 'true'] }))).toMatchObject({ user: 'root', cwd: '/' });
  });

  test('is asked every second at least, and gives up when Docker would', () => {
    const { everyMs, retries, startPeriodMs } = imageCheck(
      machine,
      image({ test: ['CMD', 'true'], everyMs: 10_000, retries: 5, startPeriodMs: 3_000 }),
    );
    expect(everyMs).toBe(1_000);
    expect(startPeriodMs + retries * everyMs).toBe(3_000 + 5 * 10_000);
    expect(imageCheck(machine, image({ test: ['CMD', 'true'], everyMs: 200 })).everyMs).toBe(200);
  });

  test.each([[undefined], [{ test: ['NONE'] }], [{ test: [] }]])(
    'that is none (%j) is an error with a way out',
    (none) => {
      expect(() => imageCheck(machine, image(none))).toThrow(/db cannot become healthy/);
      expect(() => imageCheck(machine, undefined)).toThrow(/db cannot become healthy/);
    },
  );
});
