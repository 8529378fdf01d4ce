import { closeSync, constants, fstatSync, readFileSync, readSync, renameSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { OwnFolder, writeFailed } from './own-folder.ts';
import { projectPaths } from './paths.ts';

/** Names in `.ts-vm`: of the file, and of what it was before it reached its size limit. */
export interface LineLogNames {
  readonly current: string;
  readonly old: string;
}

const defaultLimitBytes = 1 << 20;

/**
 * An append-only file of JSON lines, with the time first. Each entry is one write(2) of one line, so a kill leaves at most
 * one torn line; nothing is fsync'ed.
 */
export class LineLog {
  readonly #folder: OwnFolder;
  readonly #names: LineLogNames;
  readonly #limitBytes: number;
  #fd: number;
  #size: number;

  private constructor(folder: OwnFolder, names: LineLogNames, limitBytes: number) {
    this.#folder = folder;
    this.#names = names;
    this.#limitBytes = limitBytes;
    this.#fd = openForAppend(folder, names.current);
    this.#size = fstatSync(this.#fd).size;
    // A killed writer may have left half a line: end it, so that only that line is lost.
    if (this.#size > 0 && lastByte(this.#fd, this.#size) !== 10) this.#size += writeSync(this.#fd, '\n');
  }

  /** Makes `.ts-vm` when needed. @throws TSV_STATE_UNSAFE, TSV_STATE_WRITE */
  static open(projectDir: string, names: LineLogNames, limitBytes: number = defaultLimitBytes): LineLog {
    const { stateDir } = projectPaths(projectDir);
    let folder: OwnFolder | undefined;
    try {
      folder = OwnFolder.ensure(stateDir);
      return new LineLog(folder, names, limitBytes);
    } catch (error) {
      folder?.close();
      throw writeFailed(join(stateDir, names.current), error, 'nothing was changed');
    }
  }

  append(entry: object): void {
    const line = Buffer.from(`${JSON.stringify({ time: new Date().toISOString(), ...entry })}\n`);
    if (this.#size > 0 && this.#size + line.length > this.#limitBytes) this.#rotate();
    this.#size += writeSync(this.#fd, line);
  }

  close(): void {
    closeSync(this.#fd);
    this.#folder.close();
  }

  #rotate(): void {
    renameSync(this.#folder.at(this.#names.current), this.#folder.at(this.#names.old));
    const fresh = openForAppend(this.#folder, this.#names.current);
    closeSync(this.#fd);
    this.#fd = fresh;
    this.#size = 0;
  }
}

function openForAppend(folder: OwnFolder, name: string): number {
  return folder.createFile(name, constants.O_RDWR | constants.O_APPEND);
}

function lastByte(fd: number, size: number): number | undefined {
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, size - 1);
  return byte[0];
}

/** All entries that are there, oldest first, and how many lines were torn (by a kill in the middle of a write). */
export function readLineLog<T>(
  projectDir: string,
  names: LineLogNames,
): { readonly entries: readonly T[]; readonly torn: number } {
  const folder = OwnFolder.open(projectPaths(projectDir).stateDir);
  if (folder === undefined) return { entries: [], torn: 0 };
  try {
    const lines = [names.old, names.current].flatMap((name) => readLines(folder, name));
    const entries = lines.map((line) => parseLine<T>(line)).filter((entry) => entry !== undefined);
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

/** Undefined: it was torn by a kill. */
export function parseLine<T>(line: string): T | undefined {
  try {
    return JSON.parse(line) as T;
  } catch {
    return undefined;
  }
}
