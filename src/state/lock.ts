import { closeSync, constants, readFileSync, renameSync, unlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { TsvError } from '../model/errors.ts';
import { processRef } from '../sys/process.ts';
import { Mismatch, matching, object, text, wholeFrom } from './check.ts';
import { temporaryNameOf } from './names.ts';
import { OwnFolder, writeFailed } from './own-folder.ts';
import { projectPaths, stateFiles } from './paths.ts';

/** Who holds the project, and since when. Information for people: the kernel's lock on `lock` is what excludes. */
export interface LockHolder {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat, so that a recycled pid is not blamed. */
  readonly startTime: string;
  /** As it was typed, e.g. `tsv up`. */
  readonly command: string;
  /** ISO 8601, UTC. */
  readonly since: string;
}

/** What an agent without a command is called, and one that goes: its successor waits for it. */
export const idleName = 'agent';
export const leavingName = 'leaving';

/** Whether a command is under way; else it is an agent that waits for one, or goes. */
export const isCommand = ({ command }: LockHolder): boolean => command !== idleName && command !== leavingName;

const holderCheck = object<LockHolder>(
  { pid: wholeFrom(1), startTime: matching(/^[0-9]+$/, 'a number'), command: text, since: text },
  {},
);

/**
 * Opens `.ts-vm/lock` (made when needed) for flock(2). It is never removed: a waiter could otherwise hold the lock of
 * an unlinked file while somebody else locks its successor.
 * @throws TSV_STATE_UNSAFE, TSV_STATE_WRITE
 */
export function openLockFile(projectDir: string): number {
  return inStateFolder(projectDir, stateFiles.lock, (folder) => folder.createFile(stateFiles.lock, constants.O_RDWR));
}

/** Called by the new holder right after it has the lock, and again when its command changes. Readers see it whole. */
export function writeHolder(projectDir: string, holder: LockHolder): void {
  inStateFolder(projectDir, stateFiles.lockHolder, (folder) => {
    const temporary = temporaryNameOf(stateFiles.lockHolder);
    const fd = folder.createFile(temporary, constants.O_WRONLY | constants.O_EXCL);
    try {
      writeSync(fd, `${JSON.stringify(holder)}\n`);
      renameSync(folder.at(temporary), folder.at(stateFiles.lockHolder));
    } catch (error) {
      unlinkSync(folder.at(temporary));
      throw error;
    } finally {
      closeSync(fd);
    }
  });
}

function inStateFolder<T>(projectDir: string, name: string, work: (folder: OwnFolder) => T): T {
  const { stateDir } = projectPaths(projectDir);
  let folder: OwnFolder | undefined;
  try {
    folder = OwnFolder.ensure(stateDir);
    return work(folder);
  } catch (error) {
    throw writeFailed(join(stateDir, name), error, 'nothing was changed');
  } finally {
    folder?.close();
  }
}

/** The living holder, or undefined: nobody, or one that ended without saying so. */
export function readHolder(projectDir: string): LockHolder | undefined {
  const folder = OwnFolder.open(projectPaths(projectDir).stateDir);
  if (folder === undefined) return undefined;
  try {
    const fd = folder.openFile(stateFiles.lockHolder, constants.O_RDONLY);
    if (fd === undefined) return undefined;
    try {
      const holder = holderCheck(JSON.parse(readFileSync(fd, 'utf8')), '');
      return processRef(holder.pid)?.startTime === holder.startTime ? holder : undefined;
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof Mismatch) return undefined; // edited by hand: names nobody
    throw error;
  } finally {
    folder.close();
  }
}

/** `locked by pid 123 (tsv up), since 12:01:05`, local time; the date is added when it is not today's. */
export function lockedText(holder: LockHolder, now: Date = new Date()): string {
  const since = new Date(holder.since);
  const two = (value: number) => String(value).padStart(2, '0');
  const day = (date: Date) => `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const time = `${two(since.getHours())}:${two(since.getMinutes())}:${two(since.getSeconds())}`;
  return `locked by pid ${holder.pid} (${holder.command}), since ${day(since) === day(now) ? '' : `${day(since)} `}${time}`;
}

/** TSV_LOCKED for a command that does not wait. */
export function lockedError(projectDir: string, holder: LockHolder | undefined): TsvError {
  return new TsvError('TSV_LOCKED', `this project is ${holder === undefined ? 'locked' : lockedText(holder)}`, {
    details: [`lock: ${projectPaths(projectDir).lock}`],
    hint: 'wait until it has ended; the lock ends with its process, so no file has to be removed',
  });
}
