import { posix } from 'node:path';
import { openHow, openInRoot } from '../../src/oci/paths.ts';
import { becomeUser, type UserIds } from '../../src/oci/privileges.ts';
import { CLONE, O, RESOLVE } from '../../src/sys/flags.ts';
import type { Step } from '../../src/sys/program.ts';

/**
 * Writes a file of a running container whole or not at all, as the container's own root: paths, owners and file systems
 * are those of the container. The child opens a new file and reports its descriptor, the agent fetches that and writes;
 * the second part, after `go`, gives it its owner, mode and name.
 */
export function putProgram(request: {
  readonly path: string;
  readonly temporary: string;
  readonly mode: number;
  readonly owner: UserIds;
}): Step[] {
  const { path, temporary, mode, owner } = request;
  return [
    { call: 'setns', args: [{ fd: 'target' }, CLONE.NEWUSER | CLONE.NEWNS] },
    ...becomeUser({ uid: 0, gid: 0, groups: [] }),
    ...openInRoot(posix.dirname(path), O.PATH | O.DIRECTORY),
    {
      call: 'openat2',
      args: [
        { fd: 'dir' },
        temporary,
        { bytes: openHow(O.CREAT | O.EXCL | O.WRONLY, RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS, 0o600) },
        24,
      ],
      as: 'new',
      note: 'the new file',
    },
    { call: 'dup3', args: [{ result: 'new' }, { fd: 'file' }, O.CLOEXEC], as: 'file' },
    { report: 'opened', value: 'file' },
    {
      call: 'read',
      args: [{ fd: 'go' }, { bytes: new Uint8Array(8), out: true }, 1],
      mode: 'positive',
      note: 'until it is written',
    },
    { call: 'fchown', args: [{ fd: 'file' }, owner.uid, owner.gid] },
    { call: 'fchmod', args: [{ fd: 'file' }, mode] },
    { call: 'fsync', args: [{ fd: 'file' }] },
    { call: 'renameat', args: [{ fd: 'dir' }, temporary, { fd: 'dir' }, posix.basename(path)] },
    { call: 'exit_group', args: [0] },
  ];
}

/** Removes what an interrupted {@link putProgram} left. */
export function unputProgram(path: string, temporary: string): Step[] {
  return [
    { call: 'setns', args: [{ fd: 'target' }, CLONE.NEWUSER | CLONE.NEWNS] },
    ...becomeUser({ uid: 0, gid: 0, groups: [] }),
    ...openInRoot(posix.dirname(path), O.PATH | O.DIRECTORY),
    { call: 'unlinkat', args: [{ fd: 'dir' }, temporary, 0], mode: 'may' },
    { call: 'exit_group', args: [0] },
  ];
}
