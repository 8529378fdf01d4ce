import { posix } from 'node:path';
import { AT, MOUNT_ATTR, MOVE_MOUNT, MS, O, OPEN_TREE, RESOLVE } from '../sys/flags.ts';
import type { CallStep, Step } from '../sys/program.ts';
import { type MountOptions, readMountOptions } from './mount-options.ts';
import { newFilesystem } from './new-filesystem.ts';
import { ifOpened, keepAs, makeFile, makeFolders, openInRoot } from './paths.ts';
import type { OciMount } from './spec.ts';

/** A mount of a container with what the host says about it; `at` is its place in the configuration, for messages. */
export type PlannedMount = { readonly at: string } & MountPlan;

type MountPlan =
  | {
      readonly kind: 'bind';
      readonly destination: string;
      readonly source: string;
      /** What is bound: it decides whether a folder or a file is made where there is none. */
      readonly folder: boolean;
      readonly options: MountOptions;
      /** Descriptor, among the program's, of a user namespace whose id map the mount gets. */
      readonly idmap?: string;
      /** Without an id map the mount is of use too: it can be read. */
      readonly idmapOptional?: boolean;
      /** The program is given the mount, which is nowhere yet, as its descriptor. */
      readonly given?: boolean;
    }
  | {
      readonly kind: 'filesystem';
      readonly destination: string;
      readonly type: string;
      readonly source: string;
      readonly options: MountOptions;
    }
  /** cgroup v1: each hierarchy's own part, below a small tmpfs. */
  | {
      readonly kind: 'cgroup1';
      readonly destination: string;
      readonly options: MountOptions;
      readonly hierarchies: readonly {
        /** `cpu,cpuacct`, `systemd` and so on: the folder's name. */
        readonly name: string;
        /** What mount(2) takes: `cpu,cpuacct`, `none,name=systemd`. */
        readonly data: string;
        /** The container's folder on the host, to bind without a cgroup namespace. */
        readonly folder: string;
      }[];
      readonly ownNamespace: boolean;
    }
  | { readonly kind: 'remount'; readonly destination: string; readonly options: MountOptions };

/** What binding needs: everything but the host's answer. */
export const isBind = (mount: OciMount): boolean =>
  mount.type === 'bind' || (readMountOptions(mount.options ?? []).flags & MS.BIND) !== 0;

/** Name of the descriptor that holds a bind's source until it is attached. */
export const bindPlace = (index: number): string => `bind${index}`;

/** Takes hold of everything that is to be bound, where it still can be seen with the rights of whoever starts the container. */
export const openBinds = (mounts: readonly PlannedMount[]): Step[] =>
  mounts.flatMap((mount, index) => (mount.kind === 'bind' ? openBind(mount, index) : []));

/** A detached copy of the mount, restricted before anybody can use it (open_tree(2), mount_setattr(2)). */
function openBind(mount: PlannedMount & { kind: 'bind' }, index: number): Step[] {
  const { options } = mount;
  const tree = { fd: bindPlace(index) };
  const recursive = (options.flags & MS.REC) !== 0 ? AT.RECURSIVE : 0;
  const taken: Step[] = [
    {
      call: 'open_tree',
      args: [AT.FDCWD, mount.source, OPEN_TREE.CLONE | OPEN_TREE.CLOEXEC | recursive],
      as: 'what is bound',
      note: `${mount.at}.source: ${mount.source}`,
    },
    ...keepAs('what is bound', tree.fd),
  ];
  return [
    ...(mount.given === true ? [] : taken),
    ...setAttributes(tree, options.attributes, 0),
    ...setAttributes(tree, options.recursive, AT.RECURSIVE),
    ...(mount.idmap === undefined
      ? []
      : [
          {
            call: 'mount_setattr',
            args: [
              tree,
              '',
              AT.EMPTY_PATH | (options.idmap === 'single' ? 0 : AT.RECURSIVE),
              { words: [MOUNT_ATTR.IDMAP, 0, 0, { fd: mount.idmap }] },
              32,
            ],
            mode: mount.idmapOptional === true ? 'may' : 'must',
            note: `${mount.at}: the file system of ${mount.source} has no idmapped mounts`,
          } satisfies CallStep,
        ]),
  ];
}

function setAttributes(tree: { fd: string }, change: MountOptions['attributes'], depth: number): Step[] {
  if (change.set === 0 && change.clear === 0) return [];
  const attributes = { words: [change.set, change.clear, 0, 0] };
  return [{ call: 'mount_setattr', args: [tree, '', AT.EMPTY_PATH | depth, attributes, 32] }];
}

/**
 * Mounts everything in the order of the configuration; the child stands in the root file system.
 * @param opened whether {@link openBinds} went before. Where it need not, each bind is taken at its turn: the kernel lists
 * mounts by their age, and who reads that list takes the last one of a folder for what is seen there.
 */
export const mountAll = (mounts: readonly PlannedMount[], opened: boolean): Step[] =>
  mounts.flatMap((mount, index) => mountOne(mount, index, opened));

function mountOne(mount: PlannedMount, index: number, opened: boolean): Step[] {
  switch (mount.kind) {
    case 'bind':
      return [
        ...(opened ? [] : openBind(mount, index)),
        ...bind(mount, index),
        ...propagate(mount.destination, mount.options),
      ];
    case 'filesystem':
      return [...mountFilesystem(mount), ...holdForCopy(mount, index), ...propagate(mount.destination, mount.options)];
    case 'cgroup1':
      return mountCgroup1(mount);
    case 'remount':
      return remount(mount);
  }
}

function bind(mount: PlannedMount & { kind: 'bind' }, index: number): Step[] {
  return [
    ...(mount.folder ? makeFolders(mount.destination) : makeFile(mount.destination)),
    ...openInRoot(mount.destination, O.PATH),
    {
      call: 'move_mount',
      args: [{ fd: bindPlace(index) }, '', { fd: 'dir' }, '', MOVE_MOUNT.F_EMPTY_PATH | MOVE_MOUNT.T_EMPTY_PATH],
      note: `${mount.at}: bind at ${mount.destination}`,
    },
    ...(isRoot(mount) ? [{ call: 'fchdir', args: [{ fd: bindPlace(index) }] } satisfies Step] : []),
    // A folder of the host that stays open would be a way out of the container.
    { call: 'close', args: [{ fd: bindPlace(index) }] },
  ];
}

/** Name of the descriptor that holds a new tmpfs until the image's files are in it: see copy-up.ts. */
export const copyPlace = (index: number): string => `copy${index}`;

/** The file system by itself: what is mounted below it later is not in the way. */
function holdForCopy(mount: PlannedMount & { kind: 'filesystem' }, index: number): Step[] {
  if (!mount.options.copyUp) return [];
  return [
    ...openInRoot(mount.destination, O.PATH | O.DIRECTORY),
    {
      call: 'open_tree',
      args: [{ fd: 'dir' }, '', OPEN_TREE.CLONE | OPEN_TREE.CLOEXEC | AT.EMPTY_PATH],
      as: 'the new file system',
    },
    ...keepAs('the new file system', copyPlace(index)),
  ];
}

/** Gives it up again. */
export const releaseCopies = (mounts: readonly PlannedMount[]): Step[] =>
  mounts.flatMap((mount, index): Step[] =>
    mount.kind === 'filesystem' && mount.options.copyUp ? [{ call: 'close', args: [{ fd: copyPlace(index) }] }] : [],
  );

/** What is mounted on the root file system is the root file system from then on. */
const isRoot = ({ destination }: { destination: string }): boolean => destination === '/';

/** The kernel's own file systems, and /dev, are mounted on plain folders only: no link, nor behind one. */
const plainOnly = ({ type, destination }: { type: string; destination: string }): boolean =>
  type === 'proc' || type === 'sysfs' || /^\/dev\/?$/.test(destination);

/** A read-only tmpfs is so when everything is in it: devices, what is mounted below, what was copied up. */
const becomesReadonly = (mount: PlannedMount): boolean =>
  mount.kind === 'filesystem' && mount.type === 'tmpfs' && (mount.options.flags & MS.RDONLY) !== 0;

/** What had to wait with being read-only. */
export const lateReadonly = (mounts: readonly PlannedMount[]): Step[] =>
  mounts.filter(becomesReadonly).flatMap(({ at, destination }): Step[] => [
    ...openInRoot(destination, O.PATH | O.DIRECTORY),
    {
      call: 'mount_setattr',
      args: [{ fd: 'dir' }, '', AT.EMPTY_PATH, { words: [MOUNT_ATTR.RDONLY, 0, 0, 0] }, 32],
      note: `${at}: read-only`,
    },
  ]);

function mountFilesystem(mount: PlannedMount & { kind: 'filesystem' }): Step[] {
  const { destination, type, source, options } = mount;
  if (type === 'cgroup2') return mountCgroup2(mount);
  const flags = becomesReadonly(mount) ? options.flags & ~MS.RDONLY : options.flags;
  const data = options.data.join(',');
  const place = plainOnly(mount)
    ? openInRoot(destination, O.PATH | O.DIRECTORY | O.NOFOLLOW, {
        resolve: RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS,
        note: `${mount.at}.destination: ${destination} must be a folder, not a symbolic link`,
      })
    : openInRoot(destination, O.PATH | O.DIRECTORY);
  return [
    ...makeFolders(destination),
    ...place,
    {
      call: 'mount',
      args: [source, { fdPath: 'dir' }, type, flags, data === '' ? 0 : data],
      note: `${mount.at}: ${type} at ${destination}`,
    },
    // The way up from a root leads to itself, and there to what is mounted on it (openat2(2), RESOLVE_IN_ROOT).
    ...(isRoot(mount)
      ? [...openInRoot('..', O.PATH | O.DIRECTORY), { call: 'fchdir', args: [{ fd: 'dir' }] } satisfies Step]
      : []),
  ];
}

/**
 * Made first and then put in its place: where the host's /sys is bound, another view of the same file system is there, and
 * mount(2) does not mount one over itself (EBUSY).
 */
function mountCgroup2({ at, destination, source, options }: PlannedMount & { kind: 'filesystem' }): Step[] {
  const note = `${at}: cgroup2 at ${destination}`;
  return [
    ...makeFolders(destination),
    ...newFilesystem('cgroup2', {
      options: [`source=${source}`, ...options.data],
      attributes: options.attributes.set,
      note,
    }),
    ...openInRoot(destination, O.PATH | O.DIRECTORY),
    {
      call: 'move_mount',
      args: [{ fd: 'tree' }, '', { fd: 'dir' }, '', MOVE_MOUNT.F_EMPTY_PATH | MOVE_MOUNT.T_EMPTY_PATH],
      note,
    },
  ];
}

/** `rro`, `rnosuid` and so on, of what is there already. */
function setRecursively(mount: PlannedMount & { kind: 'remount' }): Step[] {
  const { at, destination, options } = mount;
  const { set, clear } = options.recursive;
  if (set === 0 && clear === 0) return [];
  return [
    ...openInRoot(destination, O.PATH),
    {
      call: 'mount_setattr',
      args: [{ fd: 'dir' }, '', AT.EMPTY_PATH | AT.RECURSIVE, { words: [set, clear, 0, 0] }, 32],
      note: `${at}.options: recursive ones of ${destination}`,
    },
  ];
}

function propagate(destination: string, options: MountOptions): Step[] {
  return options.propagation.flatMap((flags): Step[] => [
    ...openInRoot(destination, O.PATH),
    { call: 'mount', args: ['none', { fdPath: 'dir' }, '', flags, 0], note: `propagation of ${destination}` },
  ]);
}

function remount(mount: PlannedMount & { kind: 'remount' }): Step[] {
  const { destination, options } = mount;
  const data = options.data.join(',');
  return [
    ...openInRoot(destination, O.PATH),
    {
      call: 'mount',
      args: ['none', { fdPath: 'dir' }, '', options.flags, data === '' ? 0 : data],
      note: `${mount.at}: remount ${destination}`,
    },
    ...setRecursively(mount),
    ...propagate(destination, options),
  ];
}

function mountCgroup1(mount: PlannedMount & { kind: 'cgroup1' }): Step[] {
  const { at, destination, options, hierarchies, ownNamespace } = mount;
  const flags = options.flags & ~MS.RDONLY;
  const readonly = (options.flags & MS.RDONLY) !== 0;
  const inside = (name: string) => posix.join(destination, name);
  return [
    ...mountFilesystem({
      at,
      kind: 'filesystem',
      destination,
      type: 'tmpfs',
      source: 'tmpfs',
      options: { ...options, flags, data: ['mode=755'] },
    }),
    ...hierarchies.flatMap(({ name, data, folder }): Step[] => [
      ...makeFolders(inside(name)),
      ...openInRoot(inside(name), O.PATH | O.DIRECTORY),
      ...(ownNamespace
        ? [
            {
              call: 'mount',
              args: ['cgroup', { fdPath: 'dir' }, 'cgroup', options.flags, data],
              note: `${at}: ${inside(name)}`,
            } satisfies Step,
          ]
        : [
            {
              call: 'mount',
              args: [folder, { fdPath: 'dir' }, '', MS.BIND | MS.REC, 0],
              note: `${at}: ${inside(name)}`,
            } satisfies Step,
            ...openInRoot(inside(name), O.PATH | O.DIRECTORY),
            {
              call: 'mount',
              args: ['', { fdPath: 'dir' }, '', MS.BIND | MS.REMOUNT | options.flags, 0],
            } satisfies Step,
          ]),
      ...shortNames(destination, name),
    ]),
    ...(readonly
      ? [
          ...openInRoot(destination, O.PATH | O.DIRECTORY),
          {
            call: 'mount_setattr',
            args: [{ fd: 'dir' }, '', AT.EMPTY_PATH, { words: [MOUNT_ATTR.RDONLY, 0, 0, 0] }, 32],
          } satisfies Step,
        ]
      : []),
    ...propagate(destination, options),
  ];
}

/** `cpu` and `cpuacct` lead to `cpu,cpuacct`. */
function shortNames(destination: string, name: string): Step[] {
  const parts = name.split(',').filter((part) => part !== name);
  if (parts.length === 0) return [];
  return [
    ...openInRoot(destination, O.PATH | O.DIRECTORY),
    ...parts.map((part): Step => ({ call: 'symlinkat', args: [name, { fd: 'dir' }, part], mode: 'may' })),
  ];
}

/** Hides a file behind the host's /dev/null, or a folder behind an empty read-only tmpfs; whichever of the two it is. */
export function mask(path: string): Step {
  const flags = MS.RDONLY | MS.NOSUID | MS.NODEV | MS.NOEXEC;
  return ifOpened(path, O.PATH, 'absent', [
    {
      try: { call: 'mount', args: ['/dev/null', { fdPath: 'dir' }, '', MS.BIND, 0], note: `hide ${path}` },
      unless: 'absent', // ENOTDIR: it is a folder
      steps: [],
      otherwise: [
        {
          call: 'mount',
          args: ['tmpfs', { fdPath: 'dir' }, 'tmpfs', flags, 'size=0,nr_inodes=2'],
          note: `hide ${path}`,
        },
      ],
    },
  ]);
}

/** Makes what is at a path read-only, with all that is mounted below it. */
export function makeReadonly(path: string): Step {
  return ifOpened(path, O.PATH, 'absent', [
    {
      call: 'open_tree',
      args: [{ fd: 'dir' }, '', OPEN_TREE.CLONE | OPEN_TREE.CLOEXEC | AT.EMPTY_PATH | AT.RECURSIVE],
      as: 'the same again',
      note: `read-only ${path}`,
    },
    ...keepAs('the same again', 'tree'),
    {
      call: 'mount_setattr',
      args: [{ fd: 'tree' }, '', AT.EMPTY_PATH | AT.RECURSIVE, { words: [MOUNT_ATTR.RDONLY, 0, 0, 0] }, 32],
    },
    {
      call: 'move_mount',
      args: [{ fd: 'tree' }, '', { fd: 'dir' }, '', MOVE_MOUNT.F_EMPTY_PATH | MOVE_MOUNT.T_EMPTY_PATH],
    },
  ]);
}
