import { closeSync, constants, fstatSync, promises, readdirSync, readFileSync, unlinkSync } from 'node:fs';
import { basename } from 'node:path';
import { TsvError } from '../model/errors.ts';
import type { State } from '../model/state.ts';
import { Mismatch } from './check.ts';
import { upgrade } from './migrations.ts';
import { temporaryNameOf } from './names.ts';
import { OwnFolder, writeFailed } from './own-folder.ts';
import { projectPaths, stateFiles, temporaryName } from './paths.ts';
import { checkState, withoutProvisioning } from './schema.ts';

/** A thousand machines take about 2 MiB. */
const sizeLimitBytes = 64 << 20;

/** The state of a project in which nothing exists yet; serial 0 means that it was never written. */
export function newState(projectDir: string, projectName: string = basename(projectDir)): State {
  return {
    version: 1,
    serial: 0,
    projectId: Buffer.from(crypto.getRandomValues(new Uint8Array(6))).toString('hex'),
    projectDir,
    projectName,
    tsfileDigest: '',
    networks: {},
    machines: {},
  };
}

/**
 * Reads `.ts-vm/state.json` of a project folder; undefined when there is none. Never writes, never waits.
 * @throws TSV_STATE_CORRUPT, TSV_STATE_NEWER, TSV_STATE_UNSAFE
 */
export function readState(projectDir: string): State | undefined {
  const { stateDir, stateFile } = projectPaths(projectDir);
  const folder = OwnFolder.open(stateDir);
  if (folder === undefined) return undefined;
  try {
    const fd = folder.openFile(stateFiles.state, constants.O_RDONLY);
    if (fd === undefined) return undefined;
    try {
      if (fstatSync(fd).size > sizeLimitBytes) throw corrupt(stateFile, `it is larger than ${sizeLimitBytes} bytes`);
      return parseState(readFileSync(fd, 'utf8'), stateFile);
    } finally {
      closeSync(fd);
    }
  } finally {
    folder.close();
  }
}

/** Text of a state file to a checked state of the current version. `file` is for the messages. */
export function parseState(text: string, file: string): State {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw corrupt(
      file,
      text.trim() === '' ? 'it is empty' : `it is not whole JSON (${(cause as Error).message})`,
      cause,
    );
  }
  try {
    return checkState(upgrade(value, file));
  } catch (error) {
    if (error instanceof Mismatch) throw corrupt(file, error.message, error);
    throw error;
  }
}

function corrupt(file: string, why: string, cause?: unknown): TsvError {
  return new TsvError('TSV_STATE_CORRUPT', `${file} cannot be read`, {
    details: [why],
    hint: 'put a good copy of it back; without one, end what still runs (grep -sl TSV_ID= /proc/[0-9]*/environ shows it), then remove the folder .ts-vm',
    cause,
  });
}

/**
 * Writes the state with its serial grown by one and returns it as written. Whoever reads meanwhile, or after a kill
 * or power loss at any point, finds the old state or the new one: the text goes to a new file (O_EXCL, 0600), is
 * fsync'ed, renamed over the old file, and the folder is fsync'ed. Only the holder of the project's lock may call it.
 * @throws TSV_STATE_WRITE (earlier state intact), TSV_STATE_UNSAFE
 */
export async function writeState(projectDir: string, state: State): Promise<State> {
  const { stateDir, stateFile } = projectPaths(projectDir);
  const next: State = { ...withoutProvisioning(state), serial: state.serial + 1 };
  let folder: OwnFolder | undefined;
  try {
    folder = OwnFolder.ensure(stateDir);
    // A rename would silently replace a symlink: refuse it instead, as reading does.
    const present = folder.openFile(stateFiles.state, constants.O_RDONLY);
    if (present !== undefined) closeSync(present);
    await replaceFile(folder, stateFiles.state, `${JSON.stringify(next, null, 2)}\n`);
    return next;
  } catch (error) {
    throw writeFailed(stateFile, error, 'the state before this change is intact');
  } finally {
    folder?.close();
  }
}

/** Writes a file of an own folder, whole or not at all, and durably. */
export async function replaceFile(folder: OwnFolder, name: string, text: string): Promise<void> {
  const temporary = folder.at(temporaryNameOf(name));
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  const file = await promises.open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  try {
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await promises.rename(temporary, folder.at(name));
  } catch (error) {
    await promises.unlink(temporary).catch(() => {}); // the error that led here says more
    throw error;
  }
  const self = await promises.open(folder.at('.'), constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await self.sync();
  } finally {
    await self.close();
  }
}

/** Removes temporary files that a killed writer left. Only the holder of the project's lock may call it. */
export function removeLeftovers(projectDir: string): void {
  const folder = OwnFolder.open(projectPaths(projectDir).stateDir);
  if (folder === undefined) return;
  try {
    for (const name of readdirSync(folder.at('.'))) if (temporaryName.test(name)) unlinkSync(folder.at(name));
  } finally {
    folder.close();
  }
}

/**
 * The state in memory with its file kept in step. `update` changes the memory at once, in the order of the calls,
 * and resolves when a file that has the change is durable; changes that come while a write is under way share the
 * next one, and what is in the file already is not written again. When a write fails its callers learn it, the memory keeps
 * the truth, and the next write has it all.
 */
export class StateStore {
  readonly #projectDir: string;
  #current: State;
  /** What the file has, as {@link contentOf}; undefined: there is none. */
  #written: string | undefined;
  /** The write that has not begun yet, shared by all changes until it does. */
  #pending: Promise<State> | undefined;
  /** Settles when the last enqueued write has; never rejects. */
  #tail: Promise<unknown> = Promise.resolve();

  private constructor(projectDir: string, current: State, written: State | undefined) {
    this.#projectDir = projectDir;
    this.#current = current;
    this.#written = written === undefined ? undefined : contentOf(written);
  }

  /** Reads the state, or takes `initial` (not written yet), and removes a killed writer's leftovers. */
  static open(projectDir: string, initial: () => State = () => newState(projectDir)): StateStore {
    removeLeftovers(projectDir);
    const written = readState(projectDir);
    return new StateStore(projectDir, written ?? initial(), written);
  }

  get current(): State {
    return this.#current;
  }

  /** `change` is pure; when it throws, nothing changes and the error is the result. */
  async update(change: (state: State) => State): Promise<State> {
    this.#current = withoutProvisioning(change(this.#current));
    this.#pending ??= this.#enqueue();
    return this.#pending;
  }

  /** Resolves when no write is pending, however those ended. */
  async settled(): Promise<void> {
    await this.#tail;
  }

  #enqueue(): Promise<State> {
    const write = this.#tail.then(async () => {
      this.#pending = undefined;
      const content = contentOf(this.#current);
      if (content === this.#written) return this.#current;
      const written = await writeState(this.#projectDir, this.#current);
      this.#current = { ...this.#current, serial: written.serial };
      this.#written = content;
      return written;
    });
    this.#tail = write.catch(() => {}); // reported through `write` itself
    return write;
  }
}

/** All but the serial, which every write changes. */
const contentOf = ({ serial: _, ...content }: State): string => JSON.stringify(content);
