import { posix } from 'node:path';

/** A path of a command line, as docker cp reads it. Texts have one character per byte. */
export interface CopyPath {
  /** From the root, without `.` and `..`. */
  readonly full: string;
  readonly parent: string;
  /** Its last name; `/` for the root itself. */
  readonly name: string;
  /** It ends with a slash, or with `/.`: it has to be a folder, whatever links lead to it. */
  readonly isFolder: boolean;
  /** It ends with `/.`: what is in the folder, without the folder. */
  readonly isContent: boolean;
}

export function copyPath(text: string, from = '/'): CopyPath {
  const resolved = posix.resolve(from, text);
  const isContent = /(?:^|\/)\.$/.test(text) || resolved === '/';
  return {
    full: resolved,
    parent: posix.dirname(resolved),
    name: posix.basename(resolved) || '/',
    isFolder: isContent || text.endsWith('/') || /(?:^|\/)\.\.$/.test(text),
    isContent,
  };
}

/** Paths of people are UTF-8; those of archives and system calls have one character per byte. */
export const toBytes = (text: string): string => Buffer.from(text, 'utf8').toString('latin1');
