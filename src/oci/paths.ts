import { posix } from 'node:path';
import { AT, O, RESOLVE } from '../sys/flags.ts';
import type { Argument, Step } from '../sys/program.ts';

/*
 * Paths of a container in a syscall program. The child stands in the root file system, which may hold any symbolic link
 * and may be changed by others meanwhile: each path is resolved by openat2(2) with that folder as the root, and
 * what was found is used by its descriptor.
 */

/** Descriptors that programs use for what they open: `-1` is a free place. */
export const places = { dir: -1, file: -1, tree: -1, root: -1 } as const;

export interface OpenOptions {
  readonly into?: keyof typeof places;
  /** Resolve from here instead of the root file system. */
  readonly from?: Argument;
  readonly resolve?: number;
  /** Mode of a new file. */
  readonly create?: number;
  readonly note?: string;
}

/** struct open_how of openat2(2); never follows a link of /proc/PID. */
export function openHow(flags: number, resolve: number, mode = 0): Buffer {
  const how = Buffer.alloc(24);
  how.writeBigUInt64LE(BigInt(flags | O.CLOEXEC), 0);
  how.writeBigUInt64LE(BigInt(mode), 8);
  how.writeBigUInt64LE(BigInt(resolve | RESOLVE.NO_MAGICLINKS), 16);
  return how;
}

const relative = (path: string): string => path.replace(/^\/+/, '') || '.';

/** Moves a descriptor that a call has returned to the number of one of the program's own. */
export const keepAs = (result: string, place: string): Step[] => [
  { call: 'dup3', args: [{ result }, { fd: place }, O.CLOEXEC] },
  { call: 'close', args: [{ result }] },
];

/** The call that opens what a path of the container names, and the step that puts it into its place. */
function opening(path: string, flags: number, options: OpenOptions) {
  const { into = 'dir', from = AT.FDCWD, resolve = RESOLVE.IN_ROOT, create = 0, note } = options;
  const as = `what was opened for ${into}`;
  return {
    call: {
      call: 'openat2',
      args: [from, relative(path), { bytes: openHow(flags, resolve, create) }, 24],
      as,
      note: note ?? path,
    },
    keep: keepAs(as, into),
  } satisfies { call: Step; keep: Step[] };
}

/** Opens a path into a place; it has to be there. */
export function openInRoot(path: string, flags: number, options: OpenOptions = {}): Step[] {
  const { call, keep } = opening(path, flags, options);
  return [call, ...keep];
}

/** Opens a path and goes on with `steps`, if there is such a path (`absent`), or if it can be opened at all (`error`). */
export function ifOpened(
  path: string,
  flags: number,
  unless: 'absent' | 'error',
  steps: readonly Step[],
  options: OpenOptions = {},
): Extract<Step, { try: unknown }> {
  const { call, keep } = opening(path, flags, options);
  return { try: call, unless, steps: [...keep, ...steps] };
}

/** Makes a folder and its parents, each resolved inside the root. What is there stays as it is. */
export function makeFolders(path: string): Step[] {
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  return parts.flatMap((part, i): Step[] => [
    ...openInRoot(`/${parts.slice(0, i).join('/')}`, O.PATH | O.DIRECTORY),
    { call: 'mkdirat', args: [{ fd: 'dir' }, part, 0o755], mode: 'may' },
  ]);
}

/** Makes an empty file and its folders, where there is nothing of that name. */
export function makeFile(path: string): Step[] {
  return [
    ...makeFolders(posix.dirname(path)),
    // Not for writing: what is open for writing keeps its file system from becoming read-only.
    {
      ...ifOpened(path, O.PATH, 'error', []),
      otherwise: openInRoot(path, O.CREAT | O.RDONLY | O.NONBLOCK, { into: 'file', create: 0o644 }),
    },
  ];
}

/** Replaces a file of the container; a link in its place is removed, not followed. */
export function writeFile(path: string, content: string): Step[] {
  const bytes = Buffer.from(content);
  return [
    ...makeFolders(posix.dirname(path)),
    ...openInRoot(posix.dirname(path), O.PATH | O.DIRECTORY),
    { call: 'unlinkat', args: [{ fd: 'dir' }, posix.basename(path), 0], mode: 'may' },
    ...openInRoot(posix.basename(path), O.CREAT | O.EXCL | O.WRONLY, {
      from: { fd: 'dir' },
      into: 'file',
      resolve: RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS,
      create: 0o644,
    }),
    { call: 'write', args: [{ fd: 'file' }, { bytes }, bytes.length], note: path },
    // Not open any more: its file system may become read-only.
    { call: 'dup3', args: [{ fd: 'go' }, { fd: 'file' }, O.CLOEXEC] },
  ];
}
