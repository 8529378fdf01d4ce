import type { MachineEvent, MachineHappening } from '../model/machine-event.ts';
import { RotatedLog } from '../sys/rotated-log.ts';
import { LineLog, parseLine, readLineLog } from './line-log.ts';
import { OwnFolder } from './own-folder.ts';
import { projectPaths, stateFiles } from './paths.ts';

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

/** The events that are kept and those that are added, over rotation and over the end of the state folder. */
export class EventReader {
  readonly #log: RotatedLog;
  #position: number;
  /** A line that is being written. */
  #pending = Buffer.alloc(0);

  private constructor(log: RotatedLog) {
    this.#log = log;
    this.#position = log.begin;
  }

  /** No state folder: no events. @throws TSV_STATE_UNSAFE */
  static open(projectDir: string): EventReader {
    const { stateDir } = projectPaths(projectDir);
    OwnFolder.open(stateDir)?.close();
    return new EventReader(RotatedLog.open(stateDir, names));
  }

  /** Those that were not given yet, oldest first. */
  next(): readonly MachineEvent[] {
    this.#log.refresh();
    const parts = [this.#pending];
    for (;;) {
      const part = Buffer.alloc(64 << 10);
      const count = this.#log.read(part, this.#position);
      if (count === 0) break;
      parts.push(part.subarray(0, count));
      this.#position += count;
    }
    this.#log.forget(this.#position);
    const bytes = Buffer.concat(parts);
    const end = bytes.lastIndexOf('\n') + 1;
    this.#pending = bytes.subarray(end);
    return bytes
      .toString('utf8', 0, end)
      .split('\n')
      .map((line) => parseLine<MachineEvent>(line))
      .filter((event) => event !== undefined);
  }

  close(): void {
    this.#log.close();
  }
}
