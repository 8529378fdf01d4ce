import {
  chmodSync,
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Cgroup } from '../cgroup/index.ts';
import { TsvError } from '../model/errors.ts';
import type { ProcessRef } from '../model/state.ts';
import { makeFifo } from '../sys/fifo.ts';
import { isAlive } from '../sys/process.ts';
import type { OciConfig, OciState } from './spec.ts';
import { checkContainerId, isContainerId, ociVersion } from './validate.ts';

/** What is kept of a container between two commands: `ROOT/ID/state.json`. */
export interface ContainerRecord {
  readonly version: 1;
  readonly id: string;
  /** Absolute. */
  readonly bundle: string;
  /** As it was when the container was created; later changes of the file count for nothing. */
  readonly config: OciConfig;
  readonly cgroup: Cgroup;
  readonly process?: ProcessRef;
  readonly started: boolean;
  /** ISO 8601, UTC. */
  readonly created: string;
  readonly owner: number;
}

const stateFile = 'state.json';

/** The folder of one container's state. */
export class ContainerFolder {
  readonly path: string;
  private constructor(path: string) {
    this.path = path;
  }

  /** @throws TSV_USAGE for what is no id, TSV_CONTAINER_EXISTS */
  static create(root: string, id: string): ContainerFolder {
    checkContainerId(id);
    makeRoot(root);
    const path = join(root, id);
    try {
      mkdirSync(path, { mode: 0o700 });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw cannotWrite(path, error);
      throw new TsvError('TSV_CONTAINER_EXISTS', `container with id exists: ${id}`, {
        hint: `tsv oci delete ${id}`,
        cause: error,
      });
    }
    return new ContainerFolder(path);
  }

  /** @throws TSV_USAGE, TSV_CONTAINER_UNKNOWN */
  static open(root: string, id: string): ContainerFolder {
    checkContainerId(id);
    const path = join(root, id);
    if (lstatSync(path, { throwIfNoEntry: false })?.isDirectory() !== true) {
      throw new TsvError('TSV_CONTAINER_UNKNOWN', `container does not exist: ${id}`);
    }
    return new ContainerFolder(path);
  }

  /** Ids of all containers, in alphabetical order. */
  static list(root: string): string[] {
    try {
      return readdirSync(root, { withFileTypes: true })
        .filter((entry) => entry.isDirectory() && isContainerId(entry.name))
        .map(({ name }) => name)
        .sort();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw error;
    }
  }

  /** undefined while it is being created. */
  read(): ContainerRecord | undefined {
    try {
      return JSON.parse(readFileSync(join(this.path, stateFile), 'utf8')) as ContainerRecord;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw new TsvError('TSV_STATE_CORRUPT', `${join(this.path, stateFile)} cannot be read`, { cause: error });
    }
  }

  /** Whole or not at all. */
  write(record: ContainerRecord): void {
    replaceFile(join(this.path, stateFile), `${JSON.stringify(record)}\n`);
  }

  /** What the container waits at, and what it tells its starter by. Both are kept open by the container itself. */
  get gate(): { readonly start: string; readonly result: string } {
    return { start: join(this.path, 'start.fifo'), result: join(this.path, 'result.fifo') };
  }

  makeGate(): void {
    makeFifo(this.gate.start, 0o600);
    makeFifo(this.gate.result, 0o600);
  }

  removeGate(): void {
    for (const fifo of Object.values(this.gate)) rmSync(fifo, { force: true });
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** The root folder is this user's alone: who could write there could name any process as a container. */
function makeRoot(root: string): void {
  try {
    mkdirSync(root, { recursive: true, mode: 0o700 });
    const fd = openSync(root, constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      const stat = fstatSync(fd);
      if (stat.uid !== process.geteuid?.()) {
        throw new TsvError('TSV_STATE_UNSAFE', `${root} belongs to user ${stat.uid}`, {
          hint: 'name another folder with --root',
        });
      }
      if ((stat.mode & 0o022) !== 0) chmodSync(root, 0o700);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    if (error instanceof TsvError) throw error;
    throw cannotWrite(root, error);
  }
}

const cannotWrite = (path: string, error: unknown): TsvError =>
  new TsvError('TSV_STATE_WRITE', `${path}: ${(error as NodeJS.ErrnoException).code ?? String(error)}`, {
    cause: error,
  });

/** Writes a file by another name, then gives it its own. */
export function replaceFile(path: string, content: string): void {
  const temporary = `${path}.${process.pid}`;
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  try {
    const fd = openSync(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o644);
    try {
      writeSync(fd, content);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw cannotWrite(path, error);
  }
}

/** runtime.md, "State". */
export function stateOf(record: ContainerRecord, status = statusOf(record)): OciState {
  const { config, bundle, id } = record;
  return {
    ociVersion, // the state's own, whatever that of config.json is
    id,
    status,
    ...(record.process === undefined || status === 'stopped' ? {} : { pid: record.process.pid }),
    bundle,
    ...(config.annotations === undefined ? {} : { annotations: config.annotations }),
  };
}

export function statusOf(record: ContainerRecord): OciState['status'] {
  if (record.process === undefined) return 'creating';
  if (!isAlive(record.process)) return 'stopped';
  return record.started ? 'running' : 'created';
}
