import { readFileSync } from 'node:fs';
import { stats as cgroupStats, detectCgroups, findCgroup } from '../cgroup/index.ts';
import { TsvError } from '../model/errors.ts';
import type { MachineState, State } from '../model/state.ts';
import { hostDevice } from '../net/scripts.ts';
import { resolveTargets } from '../plan/targets.ts';
import { observe } from '../state/observe.ts';
import { readState } from '../state/store.ts';
import { containerProcesses, type ProcessesByNamespace, processesByNamespace, readProc } from '../sys/proc.ts';
import {
  type DiskTraffic,
  parseIo,
  parseNetDev,
  parseStat,
  type Traffic,
  ticksPerSecond,
  totalMemory,
} from '../sys/proc-text.ts';
import { findProjectDir, type Place } from './place.ts';
import { type Counters, type Usage, usageBetween } from './usage.ts';

/** Looks again and again at the machines that run; each look says what was used since the one before. */
export class Sampler {
  readonly #dir: string;
  readonly #names: readonly string[];
  readonly #layout = detectCgroups();
  readonly #hostBytes = totalMemory(readFileSync('/proc/meminfo', 'utf8'));
  /** By machine: its process then, so that another run is not compared with this one. */
  #before = new Map<string, { run: string; counters: Counters }>();

  /** @throws TSV_UNKNOWN_MACHINE, and TSV_NOT_RUNNING for a machine that is named and does not run */
  constructor(place: Place, names: readonly string[]) {
    this.#dir = findProjectDir(place);
    const state = readState(this.#dir);
    this.#names =
      names.length === 0
        ? []
        : resolveTargets(
            names,
            Object.values(state?.machines ?? {}).map(({ spec }) => spec),
          );
    const { machines } = observe(state);
    const down = this.#names.filter((name) => machines[name]?.state !== 'running');
    if (down.length > 0)
      throw new TsvError('TSV_NOT_RUNNING', `${down.join(', ')}: not running`, { hint: `tsv up ${down.join(' ')}` });
    this.sample();
  }

  /** In the order of the state. A machine that has just started has nothing to be compared with yet. */
  sample(): Usage[] {
    const state = readState(this.#dir);
    const { machines } = observe(state);
    const before = this.#before;
    this.#before = new Map();
    if (state === undefined) return [];
    const host = { layout: this.#layout, memoryBytes: this.#hostBytes, processes: once(processesByNamespace) };
    return Object.entries(state.machines).flatMap(([name, record]): Usage[] => {
      const isWanted = this.#names.length === 0 || this.#names.includes(name);
      if (!isWanted || record.process === undefined || machines[name]?.state !== 'running') return [];
      const counters = readCounters(state, name, record, record.process.pid, host);
      if (counters === undefined) return []; // it ended meanwhile
      const run = `${record.process.pid}/${record.process.startTime}`;
      this.#before.set(name, { run, counters });
      const last = before.get(name);
      const about = { time: new Date().toISOString(), machine: name, kind: record.spec.kind };
      return last?.run === run ? [usageBetween(last.counters, counters, about)] : [];
    });
  }
}

/** What containers are looked at with. */
interface Host {
  readonly layout: ReturnType<typeof detectCgroups>;
  readonly memoryBytes: number;
  readonly processes: () => ProcessesByNamespace;
}

function once<T>(work: () => T): () => T {
  let result: { value: T } | undefined;
  return () => {
    result ??= { value: work() };
    return result.value;
  };
}

const readCounters = (
  state: State,
  name: string,
  record: MachineState,
  pid: number,
  host: Host,
): Counters | undefined =>
  record.spec.kind === 'vm' ? ofVm(state, name, record, pid) : ofContainer(state, name, pid, host);

function ofContainer(state: State, name: string, pid: number, host: Host): Counters | undefined {
  const cgroupText = readProc(pid, 'cgroup');
  const netText = readProc(pid, 'net/dev');
  if (cgroupText === undefined || netText === undefined) return undefined;
  const counted = cgroupStats(findCgroup(host.layout, cgroupText, `tsv/${state.projectId}/${name}`));
  const sums = once(() => sumOf(containerProcesses(pid, host.processes())));
  const atNs = process.hrtime.bigint();
  const { total } = counted.cpu.usage;
  const { raw, usage } = counted.memory;
  // What was read from files and can be dropped at any time is not what it needs: as docker stats counts.
  const idle = Number(raw?.total_inactive_file ?? raw?.inactive_file ?? 0);
  const io = counted.blkio.ioServiceBytesRecursive;
  const bytesOf = (op: string): number =>
    (io ?? []).reduce((sum, entry) => (entry.op === op ? sum + Number(entry.value ?? 0) : sum), 0);
  return {
    atNs,
    cpuNs: total === undefined ? sums().cpuNs : Number(total),
    memoryBytes: raw === undefined ? sums().memoryBytes : Math.max(0, Number(usage.usage ?? 0) - idle),
    memoryLimitBytes: raw === undefined ? host.memoryBytes : Math.min(host.memoryBytes, Number(usage.limit)),
    pids: Number(counted.pids.current ?? sums().pids),
    network: add([...parseNetDev(netText)].flatMap(([device, traffic]) => (device === 'lo' ? [] : [traffic]))),
    disk: io === undefined ? sums().disk : { readBytes: bytesOf('Read'), writtenBytes: bytesOf('Write') },
    source: {
      cpu: total === undefined ? 'processes' : 'cgroup',
      memory: raw === undefined ? 'processes' : 'cgroup',
      disk: io === undefined ? 'processes' : 'cgroup',
    },
  };
}

interface Sums {
  readonly cpuNs: number;
  readonly memoryBytes: number;
  readonly pids: number;
  readonly disk: DiskTraffic;
}

/** A process that ends leaves its time to the one that waits for it, so the sum does not lose it. */
function sumOf(pids: readonly number[]): Sums {
  const sums = { cpuNs: 0, memoryBytes: 0, pids: 0, disk: { readBytes: 0, writtenBytes: 0 } };
  for (const pid of pids) {
    const stat = parseStat(readProc(pid, 'stat') ?? '');
    if (stat === undefined) continue;
    sums.cpuNs += (stat.ticks + stat.childTicks) * (1e9 / ticksPerSecond);
    sums.memoryBytes += stat.residentBytes;
    sums.pids += stat.threads;
    const io = parseIo(readProc(pid, 'io') ?? '');
    sums.disk.readBytes += io.readBytes;
    sums.disk.writtenBytes += io.writtenBytes;
  }
  return sums;
}

/** QEMU is one process, and its taps are in the sandbox. */
function ofVm(state: State, name: string, { spec, addresses }: MachineState, pid: number): Counters | undefined {
  const holder = state.sandbox?.holder;
  const stat = parseStat(readProc(pid, 'stat') ?? '');
  if (stat === undefined || holder === undefined) return undefined;
  const atNs = process.hrtime.bigint();
  const devices = parseNetDev(readProc(holder.pid, 'net/dev') ?? '');
  const taps = addresses.flatMap((_, index) => devices.get(hostDevice('t', name, index)) ?? []);
  // What a tap receives is what the machine sends.
  const network = add(
    taps.map(({ receivedBytes, sentBytes }) => ({ receivedBytes: sentBytes, sentBytes: receivedBytes })),
  );
  return {
    atNs,
    cpuNs: stat.ticks * (1e9 / ticksPerSecond),
    memoryBytes: stat.residentBytes,
    memoryLimitBytes: spec.memoryBytes,
    network,
    disk: parseIo(readProc(pid, 'io') ?? ''),
    source: { cpu: 'qemu', memory: 'qemu', disk: 'qemu' },
  };
}

const add = (all: readonly Traffic[]): Traffic => ({
  receivedBytes: all.reduce((sum, { receivedBytes }) => sum + receivedBytes, 0),
  sentBytes: all.reduce((sum, { sentBytes }) => sum + sentBytes, 0),
});
