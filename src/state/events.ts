import type { MachineEvent, MachineHappening } from '../model/machine-event.ts';
import { LineLog, readLineLog } from './line-log.ts';
import { stateFiles } from './paths.ts';

const names = { current: stateFiles.events, old: stateFiles.eventsOld };

/** What happened to the machines, for `tsv events` and for people. The agent writes it; nothing is decided by it. */
export class EventLog {
  readonly #projectDir: string;
  #log: LineLog | undefined;

  constructor(projectDir: string) {
    this.#projectDir = projectDir;
  }

  /** A record that cannot be written (a full disk) is lost; what happened goes on. */
  append(machine: string, event: MachineHappening): void {
    try {
      this.#log ??= LineLog.open(this.#projectDir, names);
      this.#log.append({ machine, event });
    } catch (error) {
      console.error(`events: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  close(): void {
    this.#log?.close();
    this.#log = undefined;
  }
}

/** All that are kept, oldest first. */
export const readEvents = (projectDir: string): readonly MachineEvent[] =>
  readLineLog<MachineEvent>(projectDir, names).entries;
