import { statfsSync } from 'node:fs';
import { TsvError } from '../../model/errors.ts';
import type { Descriptor } from '../../model/image.ts';

/** TSV_STORE for a file that could not be read or written; a TsvError stays as it is. `what`: `the blob … could not be written` */
export function storeFailure(what: string, path: string, cause: unknown): TsvError {
  if (cause instanceof TsvError) return cause;
  const error = cause instanceof Error ? cause : new Error(String(cause));
  const code = 'code' in error ? error.code : undefined;
  const full = code === 'ENOSPC' || code === 'EDQUOT';
  return new TsvError('TSV_STORE', full ? `${what}: the disk is full` : what, {
    details: [error.message, freeText(path)],
    hint: full ? roomHint : `see that ${path} can be read and written by this user`,
    cause,
  });
}

/** @throws TSV_STORE when a file of `bytes` more cannot fit: better said before it comes than after. */
export function requireRoom(folder: string, bytes: number, name: string): void {
  const free = freeBytes(folder);
  if (free === undefined || free >= bytes) return;
  throw new TsvError('TSV_STORE', `there is no room for ${name}: the disk is full`, {
    details: [`it needs ${kib(bytes)}`, freeText(folder)],
    hint: roomHint,
  });
}

/** TSV_DIGEST for bytes that are not what their name says. */
export function wrongContent(name: string, { digest, size }: Descriptor, got: string): TsvError {
  return new TsvError('TSV_DIGEST', `${name} is not what it should be`, {
    details: [`wanted: ${digest}, ${size} bytes`, `got: ${got}`],
    hint: 'nothing of it was kept; if it happens again, ask whoever offers it, or look at the proxy in between',
  });
}

/** TSV_DIGEST for a blob of the store. */
export function damaged(path: string, { digest, size }: Descriptor, got: string): TsvError {
  return new TsvError('TSV_DIGEST', `a blob of the store is damaged: ${digest}`, {
    details: [path, `wanted: ${digest}, ${size} bytes`, `got: ${got}`],
    hint: 'it was removed; pull the image again',
  });
}

const roomHint = 'make room (tsv store gc removes what nothing uses), or set TSV_STORE to a folder on another disk';

const kib = (bytes: number): string => `${Math.ceil(bytes / 1024)} KiB`;

function freeText(path: string): string {
  const free = freeBytes(path);
  return `${path}: ${free === undefined ? 'unknown' : kib(free)} free`;
}

function freeBytes(path: string): number | undefined {
  try {
    const { bavail, bsize } = statfsSync(path);
    return bavail * bsize;
  } catch {
    return undefined; // only told, never relied on
  }
}
