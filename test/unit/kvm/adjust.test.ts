import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { adjustVm, mostOf, placesForCpus, stillHas } from '../../../providers/kvm/adjust.ts';
import { availableBytes, balloonTo } from '../../../providers/kvm/balloon.ts';
import { cpuSlots } from '../../../providers/kvm/cpus.ts';
import { type Qmp, QmpError, type QmpEvent } from '../../../providers/kvm/qmp.ts';
import type { Machine } from '../../../src/model/project.ts';
import type { ExecRequest, Transport } from '../../../src/model/provider.ts';

/* Against a QEMU that is played. A real one and a real guest: test/e2e/vm.test.ts */

const MiB = 2 ** 20;
const { signal } = new AbortController();

/** A QEMU with places for CPUs and a guest that gives back what it can. */
class Played implements Qmp {
  readonly log: string[] = [];
  readonly closed = new Promise<void>(() => {});
  actual = 512 * MiB;
  /** What the guest needs. */
  least = 0;
  hasBalloon = true;
  /** Of what it has; undefined: it has no driver. */
  available: number | undefined = 400 * MiB;
  #asked = 0;
  readonly #listeners = new Set<(event: QmpEvent) => void>();
  readonly #slots: Record<string, unknown>[];

  constructor(taken: number, places: number) {
    // As QEMU lists them: the last first.
    this.#slots = Array.from({ length: places }, (_, index) => ({
      type: 'max-x86_64-cpu',
      'vcpus-count': 1,
      props: { 'core-id': index, 'thread-id': 0, 'socket-id': 0 },
      ...(index < taken ? { 'qom-path': `/machine/unattached/device[${index}]` } : {}),
    })).reverse();
  }

  async execute(command: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    switch (command) {
      case 'query-hotpluggable-cpus':
        return this.#slots;
      case 'query-memory-size-summary':
        return { 'base-memory': 512 * MiB, 'plugged-memory': 0 };
      case 'query-balloon':
        if (!this.hasBalloon) throw new QmpError('No balloon device has been activated', 'DeviceNotActive');
        return { actual: this.actual };
      case 'balloon':
        this.log.push(`balloon ${Number(args.value) / MiB}`);
        queueMicrotask(() => this.#give(Math.max(this.least, Number(args.value))));
        return {};
      case 'qom-set':
        if (args.value === 1 && this.available !== undefined) this.#asked++;
        return {};
      case 'qom-get':
        return { 'last-update': this.#asked, stats: { 'stat-available-memory': this.available } };
      case 'device_add':
        this.log.push(`device_add ${args.driver} ${args.id} core ${args['core-id']}`);
        return {};
      default:
        throw new QmpError(`The command ${command} has not been found`, 'CommandNotFound');
    }
  }

  onEvent(listener: (event: QmpEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  close(): void {}

  get listeners(): number {
    return this.#listeners.size;
  }

  /** Half of the way, and then the rest, each with an event. */
  #give(target: number): void {
    const half = (this.actual + target) / 2;
    for (const [actual, when] of [
      [half, queueMicrotask],
      [target, setImmediate],
    ] as const)
      when(() => {
        this.actual = actual;
        for (const listener of this.#listeners) listener({ event: 'BALLOON_CHANGE', data: { actual } });
      });
  }
}

/** A guest whose shell ends with this code after it has said something. */
function guest(code: number, said: string) {
  const seen: { request?: ExecRequest; closed: boolean } = { closed: false };
  const transport = {
    async exec(request: ExecRequest) {
      seen.request = request;
      const stdout = new PassThrough();
      stdout.end(said);
      const exited = once(stdout, 'end').then(() => ({ code }));
      return { stdin: new PassThrough(), stdout, stderr: new PassThrough(), exited };
    },
    close() {
      seen.closed = true;
    },
  };
  return { seen, connect: async () => transport as unknown as Transport };
}

const machine = (memory: number, cpus: number) => ({ name: 'db', memoryBytes: memory * MiB, cpus }) as Machine;

describe('memory of a virtual machine that runs', () => {
  test('is asked for, and what the guest makes of it is waited for', async () => {
    const qmp = new Played(1, 2);
    expect(await balloonTo(qmp, 256 * MiB, signal)).toBe(256 * MiB);
    expect(await balloonTo(qmp, 512 * MiB, signal)).toBe(512 * MiB);
    expect([qmp.log, qmp.listeners]).toEqual([['balloon 256', 'balloon 512'], 0]);
  });

  test('that the guest needs is left to it, and said', async () => {
    const qmp = new Played(1, 2);
    qmp.least = 300 * MiB;
    expect(await balloonTo(qmp, 256 * MiB, signal, { patienceMs: 50, longestMs: 10_000 })).toBe(300 * MiB);
    expect(qmp.listeners).toBe(0);
  });

  test('is not waited for longer than is said, though the guest gives a bit now and then', async () => {
    const qmp = new Played(1, 2);
    qmp.least = 300 * MiB;
    expect(await balloonTo(qmp, 256 * MiB, signal, { patienceMs: 10_000, longestMs: 50 })).toBe(300 * MiB);
  });
});

test('whoever waits for memory can be interrupted', async () => {
  const qmp = new Played(1, 2);
  qmp.least = 300 * MiB;
  const abort = new AbortController();
  const waiting = balloonTo(qmp, 256 * MiB, abort.signal);
  setImmediate(() => setImmediate(() => abort.abort(new Error('enough'))));
  await expect(waiting).rejects.toThrow('enough');
  expect(qmp.listeners).toBe(0);
});

test('memory that the guest uses is not taken from it, and it gets no CPUs then', async () => {
  const qmp = new Played(1, 2);
  qmp.available = 287 * MiB;
  const others = { ...guest(0, ''), signal, notice: expect.unreachable };
  await expect(adjustVm(qmp, machine(512, 1), machine(256, 2), others)).rejects.toMatchObject({
    code: 'TSV_CGROUP',
    details: ['its system uses 225M, so 257M is the least now', 'it runs on as before, with 512M'],
  });
  expect([qmp.log, qmp.actual]).toEqual([[], 512 * MiB]);
  qmp.available = 288 * MiB;
  await adjustVm(qmp, machine(512, 1), machine(256, 1), others);
  expect(qmp.actual).toBe(256 * MiB);
});

test.each([undefined, 2 ** 64 - 1])(
  'what a guest has to spare is not known where it does not say it (%s)',
  async (available) => {
    const qmp = new Played(1, 2);
    qmp.available = available;
    expect(await availableBytes(qmp, signal, 50)).toBeUndefined();
  },
);

test('nothing is said of a guest that does as it is asked; else what it has, never less than that', async () => {
  const qmp = new Played(1, 2);
  await adjustVm(qmp, machine(512, 1), machine(256, 1), { ...guest(0, ''), signal, notice: expect.unreachable });
  expect(qmp.actual).toBe(256 * MiB);
  expect(stillHas('db', 300 * MiB + 1, 256 * MiB)).toBe(
    'db still has 301M of memory, not 256M: its system gives the rest back when it can',
  );
});

describe('CPUs of a virtual machine that runs', () => {
  test('are as many as the host has, and not so many that they cost much; or what the Tsfile says', () => {
    expect([placesForCpus(1, 2), placesForCpus(1, 64), placesForCpus(12, 2)]).toEqual([2, 8, 12]);
  });

  test('are put in the first places that are free, and then used', async () => {
    const qmp = new Played(1, 4);
    expect((await cpuSlots(qmp)).map(({ taken, place }) => [taken, place['core-id']])).toEqual([
      [true, 0],
      [false, 1],
      [false, 2],
      [false, 3],
    ]);
    const { seen, connect } = guest(0, '');
    await adjustVm(qmp, machine(512, 1), machine(512, 3), { connect, signal, notice: expect.unreachable });
    expect(qmp.log).toEqual([
      'device_add max-x86_64-cpu cpu-1-0-0 core 1',
      'device_add max-x86_64-cpu cpu-2-0-0 core 2',
    ]);
    expect([seen.request?.argv.at(-1), seen.request?.user, seen.closed]).toEqual(['3', undefined, true]);
  });

  test('that are there already are only used', async () => {
    const qmp = new Played(2, 2);
    await adjustVm(qmp, machine(512, 1), machine(512, 2), { ...guest(0, ''), signal, notice: expect.unreachable });
    expect(qmp.log).toEqual([]);
  });

  test('that the guest does not take are an error, and its memory stays', async () => {
    const qmp = new Played(1, 2);
    const { seen, connect } = guest(1, 'only 1 are in use\n');
    await expect(
      adjustVm(qmp, machine(512, 1), machine(256, 2), { connect, signal, notice: expect.unreachable }),
    ).rejects.toMatchObject({ code: 'TSV_UNSUPPORTED', details: ['only 1 are in use'] });
    expect([qmp.log, qmp.actual, seen.closed]).toEqual([
      ['device_add max-x86_64-cpu cpu-1-0-0 core 1'],
      512 * MiB,
      true,
    ]);
  });

  test('for which there is no room are an error', async () => {
    const qmp = new Played(1, 2);
    await expect(
      adjustVm(qmp, machine(512, 1), machine(512, 3), { ...guest(0, ''), signal, notice: expect.unreachable }),
    ).rejects.toMatchObject({ code: 'TSV_UNSUPPORTED', details: ['there is room for 2 CPUs'] });
  });
});

test('what a run can have is asked of QEMU; one without a balloon keeps its memory', async () => {
  const qmp = new Played(1, 2);
  expect(await mostOf(qmp)).toEqual({ memoryBytes: 512 * MiB, cpus: 2 });
  qmp.hasBalloon = false;
  expect(await mostOf(qmp)).toEqual({ cpus: 2 });
});
