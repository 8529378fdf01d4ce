import type { MachineHappening } from '../model/machine-event.ts';
import type { MachineState, ProcessRef } from '../model/state.ts';
import { readEvents } from '../state/events.ts';
import { isCommand, readHolder } from '../state/lock.ts';
import { readState } from '../state/store.ts';
import { keeperOf } from '../sys/keeper-of.ts';
import { isAlive, processRef } from '../sys/process.ts';

/** What decides whether a machine may print more. */
export interface Prospects {
  /** Absent: it does not exist. */
  readonly record: MachineState | undefined;
  /** Its process, or whoever still reads what that printed. */
  readonly alive: boolean;
  /** There is an agent, which notes its end and would start it again. */
  readonly agent: boolean;
  /** What happened to it last, of what tells. */
  readonly last: MachineHappening | undefined;
}

/** Pure. A machine that is not running may still be about to run, by its restart policy. */
export function mayPrint({ record, alive, agent, last }: Prospects): boolean {
  if (record === undefined) return false;
  if (alive) return true;
  if (record.process === undefined || !agent) return false;
  if (record.ended === undefined) return true; // the agent has not noted it yet, nor all that it printed
  if (record.spec.restart === undefined) return false;
  switch (last?.type) {
    case 'given-up':
    case 'stopped':
    case 'suspended':
    case 'destroyed':
    case 'renamed':
      return false;
    case 'ended': {
      const { why, code } = last.ending;
      return !(record.spec.restart.when === 'on-failure' && why === 'exited' && code === 0);
    }
    default:
      return true;
  }
}

const telling: readonly MachineHappening['type'][] = [
  'started',
  'ended',
  'restarting',
  'given-up',
  'stopped',
  'suspended',
  'destroyed',
  'renamed',
];

/** Looks whether more can come from some machines. */
export class LogEnd {
  readonly #projectDir: string;
  readonly #machines: readonly string[];
  /** By machine: who reads its output, as long as that is known. */
  readonly #readers = new Map<string, ProcessRef>();

  constructor(projectDir: string, machines: readonly string[]) {
    this.#projectDir = projectDir;
    this.#machines = machines;
  }

  /** `processes`: whose end may change the answer. */
  look(): { readonly over: boolean; readonly processes: readonly ProcessRef[] } {
    const holder = readHolder(this.#projectDir);
    const state = readState(this.#projectDir);
    const processes: ProcessRef[] = [];
    const agent = holder === undefined ? undefined : processRef(holder.pid);
    if (agent !== undefined) processes.push(agent);
    let over = true;
    for (const name of this.#machines) {
      const record = state?.machines[name];
      const alive = this.#alive(name, record?.process);
      processes.push(...alive);
      const last = record?.spec.restart === undefined || alive.length > 0 ? undefined : this.#last(name);
      if (mayPrint({ record, alive: alive.length > 0, agent: agent !== undefined, last })) over = false;
    }
    // What a command has begun it brings to an end: `tsv reload` starts again what it stops.
    return { over: over && !(holder !== undefined && isCommand(holder)), processes };
  }

  /** The machine's process and the one that reads what it prints, which ends when everything is written down. */
  #alive(name: string, process: ProcessRef | undefined): ProcessRef[] {
    const running = isAlive(process);
    if (running) {
      const reader = keeperOf(process.pid);
      if (reader !== undefined) this.#readers.set(name, reader);
    }
    const reader = this.#readers.get(name);
    return [...(running ? [process] : []), ...(isAlive(reader) ? [reader] : [])];
  }

  #last(name: string): MachineHappening | undefined {
    return readEvents(this.#projectDir).findLast(
      ({ machine, event }) => machine === name && telling.includes(event.type),
    )?.event;
  }
}
