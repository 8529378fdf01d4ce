import { dirname } from 'node:path';
import type { Jail } from '../model/launch.ts';
import { capabilityNames, capsetArguments } from './capabilities.ts';
import { AT, CLONE, MNT_DETACH, MOVE_MOUNT, MS, O, OPEN_TREE, PR } from './flags.ts';
import type { Step } from './program.ts';

const S_IFREG = 0o100000;
const S_IFCHR = 0o020000;

/**
 * A root of its own for a child that root of the host starts, with nothing in it but what is listed: mount_namespaces(7),
 * pivot_root(2), as Firecracker's jailer does it. Pure. {@link giveUpRoot} has to follow.
 */
export function enterJail(jail: Jail): Step[] {
  const { root, mounts, devices, files, links } = jail;
  const folders = mounts.filter(({ folder }) => folder).map(({ to }) => to);
  /** What is below a folder of the host is there with that folder. */
  const isCovered = (path: string): boolean => folders.some((folder) => path.startsWith(`${folder}/`));
  const at = (path: string): string => `${root}${path}`;
  const all = [
    ...mounts,
    ...links,
    ...devices.map(({ path }) => ({ to: path })),
    ...files.map(({ path }) => ({ to: path })),
  ];
  const made = new Set<string>();
  for (const { to } of all) for (const folder of parents(to)) if (!isCovered(`${folder}/`)) made.add(folder);
  return [
    { call: 'umask', args: [0] },
    { call: 'unshare', args: [CLONE.NEWNS], note: 'a mount namespace of its own' },
    { call: 'mount', args: ['none', '/', '', MS.REC | MS.PRIVATE, 0] },
    // Taken hold of before the new root hides anything.
    ...mounts.map(
      ({ from, folder }, index): Step => ({
        call: 'open_tree',
        args: [AT.FDCWD, from, OPEN_TREE.CLONE | OPEN_TREE.CLOEXEC | (folder ? AT.RECURSIVE : 0)],
        as: `tree${index}`,
        note: from,
      }),
    ),
    { call: 'mount', args: ['tsv', root, 'tmpfs', MS.NOSUID, 'mode=755,size=1m'] },
    ...[...made].map((folder): Step => ({ call: 'mkdirat', args: [AT.FDCWD, at(folder), 0o755] })),
    ...links.map(({ to, target }): Step => ({ call: 'symlinkat', args: [target, AT.FDCWD, at(to)] })),
    ...devices.map(
      ({ path, number }): Step => ({
        call: 'mknodat',
        args: [AT.FDCWD, at(path), S_IFCHR | 0o666, number],
        note: path,
      }),
    ),
    ...files.flatMap(({ path, content }, index): Step[] => [
      {
        call: 'openat',
        args: [AT.FDCWD, at(path), O.WRONLY | O.CREAT | O.EXCL | O.CLOEXEC, 0o444],
        as: `file${index}`,
      },
      { call: 'write', args: [{ result: `file${index}` }, { bytes: content }, content.length] },
      { call: 'close', args: [{ result: `file${index}` }], note: 'else the root could not become read-only' },
    ]),
    ...mounts.flatMap(({ to, folder, writable, programs }, index): Step[] => [
      ...(isCovered(to)
        ? []
        : [
            folder
              ? ({ call: 'mkdirat', args: [AT.FDCWD, at(to), 0o755] } satisfies Step)
              : ({ call: 'mknodat', args: [AT.FDCWD, at(to), S_IFREG | 0o444, 0] } satisfies Step),
          ]),
      {
        call: 'move_mount',
        args: [{ result: `tree${index}` }, '', AT.FDCWD, at(to), MOVE_MOUNT.F_EMPTY_PATH],
        note: to,
      },
      restrict(at(to), (writable ? 0 : MS.RDONLY) | (programs === true ? 0 : MS.NOEXEC)),
    ]),
    { call: 'chdir', args: [root] },
    { call: 'pivot_root', args: ['.', '.'] },
    { call: 'umount2', args: ['.', MNT_DETACH] },
    { call: 'mount', args: ['none', '/', '', MS.REMOUNT | MS.BIND | MS.RDONLY | MS.NOSUID, 0] },
    { call: 'chdir', args: ['/'] },
  ];
}

const restrict = (path: string, flags: number): Step => ({
  call: 'mount',
  args: ['none', path, '', MS.REMOUNT | MS.BIND | MS.NOSUID | MS.NODEV | flags, 0],
});

/** `/a/b/c`: `/a`, `/a/b`. */
function parents(path: string): string[] {
  const parent = dirname(path);
  return parent === '/' ? [] : [...parents(parent), parent];
}

/** Root becomes this user, for good: no other group, no capability, none to be had by any program. Pure. */
export function giveUpRoot(uid: number): Step[] {
  const { header, data } = capsetArguments({ permitted: 0n, effective: 0n, inheritable: 0n });
  return [
    // EINVAL: one that this kernel does not have.
    ...capabilityNames.map((_, number): Step => ({ call: 'prctl', args: [PR.CAPBSET_DROP, number], mode: 'may' })),
    { call: 'setgroups', args: [0, 0] },
    { call: 'setresgid', args: [uid, uid, uid] },
    { call: 'setresuid', args: [uid, uid, uid] },
    { call: 'capset', args: [{ bytes: header }, { bytes: data }] },
    { call: 'prctl', args: [PR.SET_NO_NEW_PRIVS, 1, 0, 0, 0] },
    { call: 'umask', args: [0o077] },
  ];
}
