import { closeSync } from 'node:fs';
import { TsvError } from '../../src/model/errors.ts';
import { openBelow, readBelow } from '../../src/oci/open.ts';
import type { UserIds } from '../../src/oci/privileges.ts';
import { O } from '../../src/sys/flags.ts';

/**
 * Opens a path of a running container from outside. The container may hold any symbolic link it likes: the path is
 * resolved as if its root were the root (openat2(2), RESOLVE_IN_ROOT), never beyond it. Returns a descriptor.
 */
export const openInside = (initPid: number, path: string, flags: number): number =>
  openBelow(`/proc/${initPid}/root`, path, flags);

/** Homes in /etc/passwd need not be there, least of all in images of one program. */
export function isFolderInside(initPid: number, path: string): boolean {
  try {
    closeSync(openInside(initPid, path, O.PATH | O.DIRECTORY));
    return true;
  } catch {
    return false;
  }
}

/** A small text file of the container; empty where there is none, or something else in its place. */
export const readInside = (initPid: number, path: string): string => readBelow(`/proc/${initPid}/root`, path) ?? '';

export interface PasswdEntry extends UserIds {
  readonly name: string;
  readonly home: string;
  readonly shell: string;
}

/**
 * A user of the container by name, `name:group`, or number, from its passwd(5) and group(5) files.
 * @throws TSV_UNSUPPORTED when there is no such user: never falls back to root.
 */
export function lookUpUser(passwd: string, group: string, spec: string): PasswdEntry {
  const [userText = '', groupText] = spec.split(':');
  const rows = (text: string) => text.split('\n').map((line) => line.split(':'));
  const number = (text: string) => (/^\d{1,10}$/.test(text) && Number(text) < 2 ** 32 - 1 ? Number(text) : undefined);
  const asId = number(userText);
  const row = rows(passwd).find(
    (fields) => fields.length >= 7 && (fields[0] === userText || (asId !== undefined && Number(fields[2]) === asId)),
  );
  if (row === undefined && asId === undefined) {
    // An image may come without /etc/passwd; its root is still root.
    if (userText === 'root') return { name: 'root', uid: 0, gid: 0, groups: [], home: '/root', shell: '/bin/sh' };
    throw new TsvError('TSV_UNSUPPORTED', `the machine has no user '${userText}'`);
  }
  const name = row?.[0] ?? userText;
  const own = row === undefined ? asId : number(row[2] ?? '');
  const primary = row === undefined ? 0 : number(row[3] ?? '');
  if (own === undefined || primary === undefined) {
    throw new TsvError('TSV_UNSUPPORTED', `the machine's user '${userText}' has no valid id`, {
      details: [`/etc/passwd: ${row?.join(':')}`],
    });
  }
  const groupRow = groupText === undefined ? undefined : rows(group).find((fields) => fields[0] === groupText);
  const gid = groupText === undefined ? primary : (number(groupText) ?? number(groupRow?.[2] ?? ''));
  if (gid === undefined) throw new TsvError('TSV_UNSUPPORTED', `the machine has no group '${groupText}'`);
  const groups = rows(group)
    .filter((fields) => fields.length >= 4 && (fields[3] ?? '').split(',').includes(name))
    .flatMap((fields) => number(fields[2] ?? '') ?? []);
  return {
    name,
    uid: own,
    gid,
    groups: [...new Set(groups)],
    home: row?.[5] || '/',
    shell: row?.[6] || '/bin/sh',
  };
}
