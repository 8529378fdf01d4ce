import { PassThrough, Readable } from 'node:stream';
import { beforeEach, describe, expect, test } from 'vitest';
import type { Check } from '../../../src/agent/health-check.ts';
import { type Clock, HealthWatches } from '../../../src/agent/health-watches.ts';
import type { ExecResult, Transport } from '../../../src/model/provider.ts';
import type { Health } from '../../../src/model/state.ts';

const never = new AbortController().signal;

/** Lets all that is ready go on, until nothing is. */
const settle = async (): Promise<void> => {
  for (let round = 0; round < 20; round++) await new Promise((resolve) => setImmediate(resolve));
};

/** Time that passes only when it is told to. */
class TestClock implements Clock {
  #now = 0;
  readonly #timers = new Set<{ at: number; call: () => void }>();

  now(): number {
    return this.#now;
  }

  after(ms: number, call: () => void): () => void {
    const timer = { at: this.#now + ms, call };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  async pass(ms: number): Promise<void> {
    const end = this.#now + ms;
    for (;;) {
      await settle();
      const next = [...this.#timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#now = next.at;
      next.call();
    }
    this.#now = end;
    await settle();
  }

  get waiting(): number {
    return this.#timers.size;
  }
}

/** What a check answers: a code, with what it prints; or nothing, until it is killed, or not even then. */
type Scripted = { readonly code: number; readonly text?: string } | 'hangs' | 'stays';

/** Machines whose checks answer as they are told to. */
class Machines {
  readonly clock = new TestClock();
  readonly answers = new Map<string, Scripted>();
  readonly checks = new Map<string, Check>();
  readonly still = new Set<string>();
  readonly health = new Map<string, Health>();
  /** Every word that was written or told, in order. */
  readonly written: string[] = [];
  readonly told: string[] = [];
  readonly asked: string[] = [];
  readonly killed: string[] = [];
  atOnce = 0;
  mostAtOnce = 0;
  endStaying: () => void = () => {};
  /** The question under way is answered like this. */
  answer: (code: number) => void = () => {};

  readonly watches = new HealthWatches({
    clock: this.clock,
    check: (name) => this.checks.get(name),
    ways: (name) => ({ connect: async () => this.#transport(name), dial: () => Promise.reject(new Error('unused')) }),
    health: (name) => this.health.get(name),
    standsStill: (name) => this.still.has(name),
    update: async (name, health) => {
      this.written.push(`${name} ${health?.status ?? 'nothing'}`);
      if (health === undefined) this.health.delete(name);
      else this.health.set(name, health);
    },
    happened: (name, { status }) => void this.told.push(`${name} ${status}`),
    printed: (name) => [`${name} printed this`],
  });

  #transport(name: string): Transport {
    const exec = async () => {
      this.asked.push(name);
      this.mostAtOnce = Math.max(this.mostAtOnce, ++this.atOnce);
      const answer = this.answers.get(name) ?? { code: 0 };
      let end: (result: ExecResult) => void = () => {};
      const exited = new Promise<ExecResult>((resolve) => {
        end = (result) => {
          this.atOnce--;
          resolve(result);
        };
      });
      this.answer = (code) => end({ code });
      const isOpen = answer === 'hangs' || answer === 'stays';
      const stdout = Readable.from(isOpen ? [] : [Buffer.from(answer.text ?? '')]);
      if (!isOpen) stdout.once('end', () => end({ code: answer.code }));
      const signal = (word: string) => {
        this.killed.push(`${name} ${word}`);
        const gone = () => end({ code: 137, signal: word });
        if (answer === 'stays') this.endStaying = gone;
        else setImmediate(gone); // the end of a process is learned later
      };
      return { stdin: new PassThrough(), stdout, stderr: Readable.from([]), exited, signal, resize: () => {} };
    };
    return { exec } as unknown as Transport;
  }
}

const check = (own: Partial<Check> = {}): Check => ({
  question: { by: 'exec', request: { argv: ['mysqladmin', 'ping'] } },
  everyMs: 1000,
  timeoutMs: 5000,
  retries: 3,
  startPeriodMs: 0,
  ...own,
});

let machines: Machines;
beforeEach(() => {
  machines = new Machines();
});
const begin = (name: string, own: Partial<Check> = {}): void => {
  machines.checks.set(name, check(own));
  machines.watches.ensure(name);
};

describe('the watch over a machine', () => {
  test('is at once, and then every so often; only changes are written and told', async () => {
    begin('db');
    await machines.clock.pass(4500);
    expect(machines.asked).toHaveLength(5);
    expect(machines.written).toEqual(['db starting', 'db healthy']);
    expect(machines.told).toEqual(['db healthy']);
  });

  test('finds it unhealthy after so many failures in a row, with the reason, and healthy after one success', async () => {
    begin('db');
    await machines.clock.pass(500);
    machines.answers.set('db', { code: 7, text: 'a\nno database\n' });
    await machines.clock.pass(2000);
    machines.answers.set('db', { code: 0 });
    await machines.clock.pass(1000);
    expect(machines.told).toEqual(['db healthy']); // two failures are not three
    machines.answers.set('db', { code: 7, text: 'a\nno database\n' });
    await machines.clock.pass(3000);
    expect(machines.health.get('db')).toMatchObject({ status: 'unhealthy', reason: 'exit code 7\na\nno database' });
    await machines.clock.pass(3000);
    machines.answers.set('db', { code: 0 });
    await machines.clock.pass(1000);
    expect(machines.told).toEqual(['db healthy', 'db unhealthy', 'db healthy']);
    expect(machines.health.get('db')).not.toHaveProperty('reason');
  });

  test('does not count failures in the start period, and takes a success in it', async () => {
    begin('db', { startPeriodMs: 60_000, retries: 1 });
    machines.answers.set('db', { code: 1 });
    await machines.clock.pass(60_000);
    expect(machines.written).toEqual(['db starting']);
    machines.answers.set('db', { code: 0 });
    await machines.clock.pass(1000);
    machines.answers.set('db', { code: 1 });
    await machines.clock.pass(1000);
    expect(machines.told).toEqual(['db healthy', 'db unhealthy']);
  });

  test('kills a check that hangs, counts it as failed, and never has two at once', async () => {
    machines.answers.set('db', 'hangs');
    begin('db', { retries: 2 });
    await machines.clock.pass(5000 + 1000 + 5000);
    expect(machines.killed).toEqual(['db KILL', 'db KILL']);
    expect(machines.health.get('db')).toMatchObject({ status: 'unhealthy', reason: 'no answer within 5000 ms' });
    expect(machines.mostAtOnce).toBe(1);
  });

  test('asks nothing more while a killed check has not ended, and counts that as failures', async () => {
    machines.answers.set('db', 'stays');
    begin('db', { retries: 3 });
    await machines.clock.pass(20_000);
    expect(machines.asked).toHaveLength(1);
    expect(machines.health.get('db')?.status).toBe('unhealthy');
    machines.answers.set('db', { code: 0 });
    machines.endStaying();
    await machines.clock.pass(1000);
    expect(machines.health.get('db')?.status).toBe('healthy');
  });

  test('is not held up by the check of another one', async () => {
    machines.answers.set('slow', 'stays');
    begin('slow', { timeoutMs: 1_000_000 });
    begin('quick');
    await machines.clock.pass(5500);
    expect(machines.asked.filter((name) => name === 'quick')).toHaveLength(6);
  });

  test('rests while it stands still, and takes no answer of that time', async () => {
    begin('db', { retries: 1 });
    await machines.clock.pass(500);
    machines.answers.set('db', 'hangs');
    await machines.clock.pass(1000);
    machines.still.add('db');
    await machines.clock.pass(20_000);
    expect(machines.asked).toHaveLength(2);
    expect(machines.told).toEqual(['db healthy']);
    machines.answers.set('db', { code: 0 });
    machines.still.delete('db');
    await machines.clock.pass(1000);
    expect(machines.asked.length).toBeGreaterThan(2);
    expect(machines.told).toEqual(['db healthy']);
  });

  test('rests while the machine is provisioned, and begins afresh afterwards', async () => {
    machines.answers.set('db', { code: 1 });
    begin('db', { retries: 3, startPeriodMs: 1000 });
    await machines.clock.pass(3500);
    await machines.watches.without('db', async () => {
      const before = machines.asked.length;
      await machines.clock.pass(60_000);
      expect(machines.asked).toHaveLength(before);
    });
    await machines.clock.pass(3500);
    expect(machines.written).toEqual(['db starting']);
    await machines.clock.pass(1000);
    expect(machines.health.get('db')?.status).toBe('unhealthy');
  });

  test('ends with the machine, its question with it', async () => {
    machines.answers.set('db', 'hangs');
    begin('db');
    await settle();
    machines.watches.stop('db');
    await machines.clock.pass(60_000);
    expect(machines.killed).toEqual(['db KILL']);
    expect(machines.asked).toHaveLength(1);
    expect(machines.clock.waiting).toBe(0);
  });

  test('takes over a check that has changed, and goes on with one that has not', async () => {
    machines.answers.set('db', { code: 1 });
    begin('db', { retries: 4 });
    await machines.clock.pass(2500);
    begin('db', { retries: 4 });
    await machines.clock.pass(1000);
    expect(machines.health.get('db')?.status).toBe('unhealthy');
    machines.answers.set('db', { code: 0 });
    begin('db', { everyMs: 10_000 });
    await settle();
    expect(machines.health.get('db')?.status).toBe('healthy');
    const before = machines.asked.length;
    await machines.clock.pass(10_000);
    expect(machines.asked).toHaveLength(before + 1);
    machines.checks.delete('db');
    machines.watches.ensure('db');
    expect(machines.written.at(-1)).toBe('db nothing');
    expect(machines.clock.waiting).toBe(0);
  });

  test('of a machine that was healthy before says nothing new', async () => {
    machines.health.set('db', { status: 'healthy', since: '2026-01-01T00:00:00.000Z' });
    begin('db');
    await machines.clock.pass(5000);
    expect(machines.written).toEqual([]);
  });
});

describe('waiting for health', () => {
  test('asks at once, however long the pause is, and is over with the first success', async () => {
    begin('db', { everyMs: 1_000_000 });
    await machines.clock.pass(1);
    const waiting = machines.watches.healthy('db', never);
    await settle();
    await waiting;
    expect(machines.asked).toHaveLength(2);
  });

  test('does not take an answer to a question that was asked before', async () => {
    machines.answers.set('db', 'hangs');
    begin('db');
    await settle();
    let isOver = false;
    const waiting = machines.watches.healthy('db', never).then(() => {
      isOver = true;
    });
    machines.answer(0);
    await settle();
    expect([machines.asked.length, isOver]).toEqual([2, false]);
    machines.answer(0);
    await waiting;
  });

  test('goes on when the machine ends and starts again', async () => {
    machines.answers.set('db', 'hangs');
    begin('db');
    const waiting = machines.watches.healthy('db', never);
    await settle();
    machines.watches.stop('db');
    machines.answers.set('db', { code: 0 });
    begin('db');
    await settle();
    await waiting;
  });

  test('gives up after so many failures from now on, with the check, its last words and those of the machine', async () => {
    machines.answers.set('db', { code: 7, text: 'a\nno database\n' });
    begin('db');
    await machines.clock.pass(10_500);
    const failure = machines.watches.healthy('db', never).catch((error: unknown) => error);
    await machines.clock.pass(1000);
    expect(machines.asked).toHaveLength(13);
    await machines.clock.pass(1000);
    expect(await failure).toMatchObject({
      code: 'TSV_UNHEALTHY',
      message: "db is not healthy: 'mysqladmin ping' failed 3 times",
      details: ['exit code 7', 'a', 'no database', 'the last lines of db:', '  db printed this'],
      hint: 'tsv exec db -- mysqladmin ping',
    });
  });

  test("asks for an image's health every second, and gives up when Docker would", async () => {
    machines.answers.set('db', { code: 1 });
    begin('db', { everyMs: 30_000, waitedEveryMs: 1000, retries: 3 });
    let failed = false;
    const waiting = machines.watches.healthy('db', never).catch(() => {
      failed = true;
    });
    await machines.clock.pass(89_500);
    expect(machines.asked.length).toBeGreaterThan(50);
    expect(failed).toBe(false);
    await machines.clock.pass(1000);
    await waiting;
    expect(failed).toBe(true);
  });

  test('ends when it is cancelled, in the middle of a pause', async () => {
    machines.answers.set('db', { code: 1 });
    begin('db', { everyMs: 1_000_000 });
    await settle();
    const abort = new AbortController();
    const waiting = machines.watches.healthy('db', abort.signal);
    abort.abort(new Error('interrupted'));
    await expect(waiting).rejects.toThrow('interrupted');
  });

  test('of a machine without a check is an error with a way out', async () => {
    await expect(machines.watches.healthy('db', never)).rejects.toMatchObject({
      code: 'TSV_UNHEALTHY',
      hint: "give db a healthcheck, or depend on it with 'started'",
    });
  });
});
