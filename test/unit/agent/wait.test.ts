import { describe, expect, test } from 'vitest';
import { Changes } from '../../../src/agent/changes.ts';
import { type WaitOptions, waitForAll } from '../../../src/agent/wait.ts';
import { TsvError } from '../../../src/model/errors.ts';
import type { Ending, MachineState, Observed } from '../../../src/model/state.ts';
import type { Condition } from '../../../src/model/waiting.ts';
import { alive, container, died, ended, process, stopped } from '../plan/fixtures.ts';

const settle = async (): Promise<void> => {
  for (let round = 0; round < 5; round++) await new Promise((resolve) => setImmediate(resolve));
};

const untilAborted = (signal: AbortSignal): Promise<void> =>
  new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });

/** Machines that change as the test says. */
class World {
  readonly changes = new Changes();
  readonly machines = new Map<string, { observed: Observed; record: MachineState }>();
  busy = false;
  /** Machines that are started again by their restart policy. */
  readonly restarting = new Set<string>();
  reach: (name: string, signal: AbortSignal) => Promise<void> = (_, signal) => untilAborted(signal);
  health: (name: string) => Promise<void> = () => new Promise(() => {});
  readonly #ends = new Set<() => void>();

  set(name: string, observed: Observed, more: Partial<MachineState> = {}): void {
    const record: MachineState = {
      spec: container(name),
      boxDigest: '',
      addresses: [],
      createdAt: '',
      ready: false,
      steps: {},
      provider: {},
      ...(observed === stopped ? {} : { process }),
      ...more,
    };
    this.machines.set(name, { observed, record });
    this.changes.tell();
    for (const look of [...this.#ends]) look();
  }

  wait(names: string, condition: Condition, signal = new AbortController().signal) {
    const options: WaitOptions = {
      look: (name) => this.machines.get(name) ?? { record: undefined, observed: { state: 'absent' } },
      busy: () => this.busy,
      changes: this.changes,
      ended: (name) =>
        new Promise<Ending>((resolve) => {
          const look = () => {
            if (this.machines.get(name)?.observed.state === 'running' || this.restarting.has(name)) return;
            this.#ends.delete(look);
            resolve({ at: '', why: 'exited', code: 0 });
          };
          this.#ends.add(look);
          look();
        }),
      reach: (name, either) => this.reach(name, either),
      untilHealthy: (name) => this.health(name),
    };
    let result: unknown;
    const waiting = waitForAll(names.split(' '), condition, options, signal).then((waited) => {
      result = waited.map(({ machine, met, is }) => `${machine} ${met ? 'met' : 'unmet'}: ${is}`);
    });
    return { waiting, result: () => result };
  }
}

describe('waiting for machines', () => {
  test('is over when all of them are what is wanted', async () => {
    const world = new World();
    world.set('a', alive, { ready: true });
    world.busy = true;
    world.set('b', stopped);
    const { waiting, result } = world.wait('a b', 'running');
    await settle();
    expect(result()).toBeUndefined();
    world.set('b', alive, { ready: true });
    await waiting;
    expect(result()).toEqual(['a met: running', 'b met: running']);
  });

  test('is over at once when one of them cannot become it by itself, with what all of them are', async () => {
    const world = new World();
    world.set('a', alive);
    world.set('b', ended(3));
    const { waiting, result } = world.wait('a b', 'running');
    await waiting;
    expect(result()).toEqual(['a unmet: starting', 'b unmet: stopped (ended with 3)']);
  });

  test('goes on while a command is under way, and is over with it', async () => {
    const world = new World();
    world.set('a', stopped);
    world.busy = true;
    const { waiting, result } = world.wait('a', 'running');
    await settle();
    expect(result()).toBeUndefined();
    world.busy = false;
    world.changes.tell();
    await waiting;
    expect(result()).toEqual(['a unmet: stopped']);
  });

  test('reaches a machine that nobody waits for', async () => {
    const world = new World();
    world.set('vm', alive);
    world.reach = async (name) => world.set(name, alive, { ready: true });
    const { waiting, result } = world.wait('vm', 'running');
    await waiting;
    expect(result()).toEqual(['vm met: running']);
  });

  test('for an end takes no end after which the machine starts again', async () => {
    const world = new World();
    world.restarting.add('a');
    world.set('a', died);
    const { waiting, result } = world.wait('a', 'stopped');
    await settle();
    expect(result()).toBeUndefined();
    world.set('a', alive);
    await settle();
    world.restarting.delete('a');
    world.set('a', ended(1));
    await waiting;
    expect(result()).toEqual(['a met: stopped (ended with 1)']);
  });

  test('for a completion tells of another end', async () => {
    const world = new World();
    const spec = container('job', { oneshot: true });
    world.set('job', alive, { spec });
    const good = world.wait('job', 'completed');
    world.set('job', ended(0), { spec });
    await good.waiting;
    expect(good.result()).toEqual(['job met: completed']);
    world.set('job', ended(3), { spec });
    const bad = world.wait('job', 'completed');
    await bad.waiting;
    expect(bad.result()).toEqual(['job unmet: stopped (ended with 3)']);
  });

  test('for health tells which check failed, and goes on with a machine that starts again', async () => {
    const world = new World();
    world.set('db', alive, { ready: true });
    world.health = async () => {
      world.set('db', alive, { ready: true, health: { status: 'unhealthy', since: '' } });
      throw new TsvError('TSV_UNHEALTHY', 'db is not healthy: x failed once', { details: ['exit code 7', 'more'] });
    };
    const bad = world.wait('db', 'healthy');
    await bad.waiting;
    expect(bad.result()).toEqual(['db unmet: running (unhealthy): x failed once: exit code 7']);

    world.restarting.add('db');
    world.health = async () => {
      world.set('db', died);
      throw new TsvError('TSV_UNHEALTHY', 'it has ended');
    };
    const good = world.wait('db', 'healthy');
    await settle();
    expect(good.result()).toBeUndefined();
    world.health = async () => world.set('db', alive, { ready: true, health: { status: 'healthy', since: '' } });
    world.restarting.delete('db');
    world.set('db', alive, { ready: true });
    await good.waiting;
    expect(good.result()).toEqual(['db met: running (healthy)']);
  });

  test('is over at once for a machine that is paused, unless it is to end', async () => {
    const world = new World();
    world.set('a', alive, { ready: true, paused: true, health: { status: 'healthy', since: '' } });
    for (const condition of ['running', 'healthy'] as const) {
      const { waiting, result } = world.wait('a', condition);
      await waiting;
      expect(result()).toEqual(['a unmet: paused']);
    }
    const { waiting, result } = world.wait('a', 'stopped');
    await settle();
    expect(result()).toBeUndefined();
    world.set('a', stopped);
    await waiting;
  });

  test('for longer than it may tells what they are', async () => {
    const world = new World();
    world.set('a', alive);
    const limit = new AbortController();
    const { waiting, result } = world.wait('a', 'running', limit.signal);
    limit.abort();
    await waiting;
    expect(result()).toEqual(['a unmet: starting']);
  });
});
