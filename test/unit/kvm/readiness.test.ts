import { describe, expect, test } from 'vitest';
import { awaitReadiness, type Readiness, type Wait } from '../../../providers/kvm/readiness.ts';
import { TsvError } from '../../../src/model/errors.ts';

const never = new Promise<never>(() => {});
const until = (signal: AbortSignal) =>
  new Promise<void>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
const wait: Wait = {
  name: 'db',
  timeoutMs: 30_000,
  signal: new AbortController().signal,
  doomed: never,
  lastLines: () => ['login:'],
};
const met: Readiness = { description: 'QEMU runs', hint: 'hint 1', fatal: true, check: async () => {} };
const advisory: Readiness = { description: 'the kernel prints', hint: 'hint 2', fatal: false, check: until };
const port: Readiness = {
  description: 'port 22 answers',
  hint: 'hint 3',
  fatal: true,
  check: (signal, report) => {
    report('ECONNREFUSED');
    return until(signal);
  },
};

describe('a wait for a machine', () => {
  test('ends well when all that is needed is met, even if an explaining one is not', async () => {
    await awaitReadiness([met, advisory, { ...port, check: async () => {} }], wait);
  });

  test('tells how long each thing took since the one before it, where somebody wants to know', async () => {
    const told: [string, number][] = [];
    let open = () => {};
    const prints = {
      ...advisory,
      part: 'kernel prints',
      check: () => new Promise<void>((resolve) => (open = resolve)),
    };
    const answers: Readiness = {
      ...port,
      part: 'port answers',
      async check() {
        open();
        await new Promise((resolve) => setImmediate(resolve));
      },
    };
    const begun = performance.now();
    const measured = (what: string, ms: number) => void told.push([what, ms]);
    let late = () => {};
    const after: Readiness = { ...prints, check: () => new Promise<void>((resolve) => (late = resolve)) };
    await awaitReadiness([met, prints, after, answers], { ...wait, measured });
    late();
    await new Promise((resolve) => setImmediate(resolve));
    expect(told.map(([what]) => what)).toEqual(['kernel prints', 'port answers']);
    const sum = told.reduce((all, [, ms]) => all + ms, 0);
    expect(sum).toBeGreaterThan(0);
    expect(sum).toBeLessThanOrEqual(performance.now() - begun);
  });

  test('that runs out of time names the requirement, its number, its last reason, its hint and the console', async () => {
    const failure = awaitReadiness([met, { ...advisory, check: async () => {} }, port, met], { ...wait, timeoutMs: 5 });
    await expect(failure).rejects.toMatchObject({
      code: 'TSV_WAIT',
      message: expect.stringMatching(/^db is not ready after [0-9.]+ s: not met is "port 22 answers" \(3 of 4\)$/),
      details: ['ECONNREFUSED', 'last lines of the console:', '  login:'],
      hint: 'hint 3',
    });
  });

  test('names an explaining requirement that is not met rather than the later one that waits', async () => {
    await expect(awaitReadiness([met, advisory, port], { ...wait, timeoutMs: 5 })).rejects.toMatchObject({
      message: expect.stringContaining('"the kernel prints" (2 of 3)'),
      hint: 'hint 2',
    });
  });

  test('fails at once when a requirement cannot be met any more', async () => {
    const broken = { ...met, check: () => Promise.reject(new Error("QEMU is in the state 'io-error'")) };
    await expect(awaitReadiness([broken, port], wait)).rejects.toMatchObject({
      code: 'TSV_WAIT',
      details: expect.arrayContaining(["QEMU is in the state 'io-error'"]),
    });
  });

  test('passes on what a check says in our own terms', async () => {
    const changed = { ...met, check: () => Promise.reject(new TsvError('TSV_HOST_KEY', 'another key')) };
    await expect(awaitReadiness([changed], wait)).rejects.toMatchObject({ code: 'TSV_HOST_KEY' });
  });

  test('fails at once when the machine died, and stops its checks', async () => {
    let stopped: AbortSignal | undefined;
    const watching = {
      ...port,
      check: (signal: AbortSignal) => {
        stopped = signal;
        return until(signal);
      },
    };
    const doomed = Promise.reject(new TsvError('TSV_VM_DIED', 'gone'));
    await expect(awaitReadiness([watching], { ...wait, doomed })).rejects.toMatchObject({ code: 'TSV_VM_DIED' });
    expect(stopped?.aborted).toBe(true);
  });

  test('ends with 130 when it is interrupted, before or during it', async () => {
    const controller = new AbortController();
    const during = awaitReadiness([port], { ...wait, signal: controller.signal });
    controller.abort();
    await expect(during).rejects.toMatchObject({ code: 'TSV_CANCELLED', exitCode: 130 });
    await expect(awaitReadiness([port], { ...wait, signal: controller.signal })).rejects.toMatchObject({
      code: 'TSV_CANCELLED',
    });
  });
});
