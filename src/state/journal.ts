import { LineLog, readLineLog } from './line-log.ts';
import { stateFiles } from './paths.ts';

/** Before a step: `start`. After it: how it ended. */
export type JournalPhase = 'start' | 'done' | 'failed' | 'cancelled';

/** One line of `journal.ndjson`. */
export interface JournalEntry {
  /** ISO 8601, UTC. */
  readonly time: string;
  /** The command that the step belongs to, e.g. `up`. */
  readonly command: string;
  /** The step as the plan prints it, e.g. `machine.start web-1`. */
  readonly step: string;
  readonly phase: JournalPhase;
  /** Why it failed, in one line. */
  readonly error?: string;
}

const names = { current: stateFiles.journal, old: stateFiles.journalOld };

/**
 * The record of what commands did, for people and for tests: the state file, not the journal, is what tsv trusts.
 */
export class Journal {
  readonly #log: LineLog;

  private constructor(log: LineLog) {
    this.#log = log;
  }

  /** Makes `.ts-vm` when needed. @throws TSV_STATE_UNSAFE, TSV_STATE_WRITE */
  static open(projectDir: string, limitBytes?: number): Journal {
    return new Journal(LineLog.open(projectDir, names, limitBytes));
  }

  append(entry: Omit<JournalEntry, 'time'>): void {
    this.#log.append(entry);
  }

  /** {@link append} for the steps of one command, in the form that the executor calls. */
  forCommand(command: string): (step: string, phase: JournalPhase, error?: string) => void {
    return (step, phase, error) => this.append({ command, step, phase, ...(error === undefined ? {} : { error }) });
  }

  close(): void {
    this.#log.close();
  }
}

/** All entries that are there, oldest first, and how many lines were torn (by a kill in the middle of a write). */
export const readJournal = (projectDir: string) => readLineLog<JournalEntry>(projectDir, names);
