import { randomBytes } from 'node:crypto';
import { closeSync, write } from 'node:fs';
import { basename } from 'node:path';
import type { Readable } from 'node:stream';
import { promisify } from 'node:util';
import { TsvError } from '../../src/model/errors.ts';
import { places } from '../../src/oci/paths.ts';
import type { UserIds } from '../../src/oci/privileges.ts';
import { waitExit } from '../../src/sys/children.ts';
import { type ForkedChild, fork } from '../../src/sys/fork.ts';
import { syscall } from '../../src/sys/libc.ts';
import type { Step } from '../../src/sys/program.ts';
import { putProgram, unputProgram } from './put-program.ts';

export interface PutTarget {
  readonly name: string;
  readonly initPid: number;
  /** Absolute, in the container. */
  readonly path: string;
  readonly owner: UserIds;
  readonly mode: number;
}

const writeSome = promisify(write);

/**
 * Writes a file of a running container, whole or not at all; see putProgram for how.
 * @throws TSV_SYSCALL naming the file and why; what `content` throws
 */
export async function putFile(target: PutTarget, content: Readable | Buffer): Promise<void> {
  const temporary = `.${basename(target.path).slice(0, 200)}.${randomBytes(6).toString('hex')}`;
  const pidfd = syscall('pidfd_open', `entering ${target.name}`, target.initPid, 0);
  try {
    const child = inContainer(target, pidfd, putProgram({ ...target, temporary }));
    const gone = waitExit(child.pid);
    try {
      const fd = fetchDescriptor(child.pid, await child.reported('opened'));
      try {
        for await (const chunk of Buffer.isBuffer(content) ? [content] : content) await writeAll(fd, chunk as Buffer);
      } finally {
        closeSync(fd);
      }
      child.go();
      await child.executed;
    } catch (error) {
      child.abandon();
      await gone;
      const removal = inContainer(target, pidfd, unputProgram(target.path, temporary));
      await waitExit(removal.pid);
      throw putError(target, error);
    }
    await gone;
  } finally {
    closeSync(pidfd);
  }
}

function inContainer(target: PutTarget, pidfd: number, steps: Step[]): ForkedChild {
  return fork({ fds: { target: pidfd, ...places }, steps }, (step, errno) => {
    const missing = errno === 'ENOENT' || errno === 'ENOTDIR';
    const why = missing ? 'its folder does not exist' : errno;
    return new TsvError('TSV_SYSCALL', `${target.name}: ${target.path}: ${why}`, { details: [`${step}: ${errno}`] });
  });
}

/** A descriptor of the child becomes one of ours (pidfd_getfd(2)): the file is open, whatever path led to it. */
function fetchDescriptor(pid: number, fd: number): number {
  const child = syscall('pidfd_open', 'writing a file of a container', pid, 0);
  try {
    return syscall('pidfd_getfd', 'writing a file of a container', child, fd, 0);
  } finally {
    closeSync(child);
  }
}

async function writeAll(fd: number, chunk: Buffer): Promise<void> {
  for (let at = 0; at < chunk.length; ) at += (await writeSome(fd, chunk, at, chunk.length - at)).bytesWritten;
}

function putError(target: PutTarget, error: unknown): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (error instanceof TsvError || code === undefined) return error;
  const why = code === 'ENOSPC' ? 'no space left' : code;
  return new TsvError('TSV_SYSCALL', `${target.name}: ${target.path}: ${why}`, { cause: error });
}
