import { closeSync, constants, fstatSync, readFileSync, readSync, renameSync, writeSync } from 'node:fs';
import { OwnFolder, writeFailed } from './own-folder.ts';
import { projectPaths, stateFiles } from './paths.ts';

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

const defaultLimitBytes = 1 << 20;

/**
 * The append-only record of what was done, for people and for tests. Each entry is one write(2) of one line, so a kill
 * leaves at most one torn line; nothing is fsync'ed, because the state file, not the journal, is what tsv trusts.
 */
export class Journal {
  readonly #folder: OwnFolder;
  readonly #limitBytes: number;
  #fd: number;
  #size: number;

  private constructor(folder: OwnFolder, limitBytes: number) {
    this.#folder = folder;
    this.#limitBytes = limitBytes;
    this.#fd = openForAppend(folder);
    this.#size = fstatSync(this.#fd).size;
    // A killed writer may have left half a line: end it, so that only that line is lost.
    if (this.#size > 0 && lastByte(this.#fd, this.#size) !== 10) this.#size += writeSync(this.#fd, '\n');
  }

  /** Makes `.ts-vm` when needed. @throws TSV_STATE_UNSAFE, TSV_STATE_WRITE */
  static open(projectDir: string, limitBytes: number = defaultLimitBytes): Journal {
    const { stateDir, journal } = projectPaths(projectDir);
    let folder: OwnFolder | undefined;
    try {
      folder = OwnFolder.ensure(stateDir);
      return new Journal(folder, limitBytes);
    } catch (error) {
      folder?.close();
      throw writeFailed(journal, error, 'nothing was changed');
    }
  }

  append(entry: Omit<JournalEntry, 'time'>): void {
    const line = Buffer.from(`${JSON.stringify({ time: new Date().toISOString(), ...entry })}\n`);
    if (this.#size > 0 && this.#size + line.length > this.#limitBytes) this.#rotate();
    this.#size += writeSync(this.#fd, line);
  }

  /** {@link append} for the steps of one command, in the form that the executor calls. */
  forCommand(command: string): (step: string, phase: JournalPhase, error?: string) => void {
    return (step, phase, error) => this.append({ command, step, phase, ...(error === undefined ? {} : { error }) });
  }

  close(): void {
    closeSync(this.#fd);
    this.#folder.close();
  }

  #rotate(): void {
    renameSync(this.#folder.at(stateFiles.journal), this.#folder.at(stateFiles.journalOld));
    const fresh = openForAppend(this.#folder);
    closeSync(this.#fd);
    this.#fd = fresh;
    this.#size = 0;
  }
}

function openForAppend(folder: OwnFolder): number {
  return folder.createFile(stateFiles.journal, constants.O_RDWR | constants.O_APPEND);
}

function lastByte(fd: number, size: number): number | undefined {
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, size - 1);
  return byte[0];
}

/** All entries that are there, oldest first, and how many lines were torn (by a kill in the middle of a write). */
export function readJournal(projectDir: string): { readonly entries: readonly JournalEntry[]; readonly torn: number } {
  const folder = OwnFolder.open(projectPaths(projectDir).stateDir);
  if (folder === undefined) return { entries: [], torn: 0 };
  try {
    const lines = [stateFiles.journalOld, stateFiles.journal].flatMap((name) => readLines(folder, name));
    const entries = lines.map(parseLine).filter((entry) => entry !== undefined);
    return { entries, torn: lines.length - entries.length };
  } finally {
    folder.close();
  }
}

function readLines(folder: OwnFolder, name: string): string[] {
  const fd = folder.openFile(name, constants.O_RDONLY);
  if (fd === undefined) return [];
  try {
    return readFileSync(fd, 'utf8')
      .split('\n')
      .filter((line) => line !== '');
  } finally {
    closeSync(fd);
  }
}

function parseLine(line: string): JournalEntry | undefined {
  try {
    return JSON.parse(line) as JournalEntry;
  } catch {
    return undefined; // counted as torn
  }
}
