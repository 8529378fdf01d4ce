import { posix } from 'node:path';
import { capabilityMask, capabilityNames, capsetArguments } from '../../src/sys/capabilities.ts';
import {
  AT,
  CLONE,
  MNT_DETACH,
  MOUNT_ATTR,
  MOVE_MOUNT,
  MS,
  O,
  OPEN_TREE,
  PR,
  RESOLVE,
  SIGCHLD,
} from '../../src/sys/flags.ts';
import { stdio } from '../../src/sys/fork.ts';
import type { Argument, Step } from '../../src/sys/program.ts';
import type { OciConfig, OciMount } from './oci.ts';

/*
 * How a container starts, as a syscall program (src/sys/program.ts). Two processes take part:
 *
 *   builder   has the agent's rights: own mount namespace, overlay, shares (they may lie in folders that only the user
 *             may enter). Then it makes all other namespaces, says `unshared`, and waits while the agent maps ids and
 *             lays cables. Then it forks and ends.
 *   init      PID 1, root of the new user namespace only: kernel file systems, devices, files, pivot_root, fewer
 *             capabilities; waits until the agent has recorded it; execve.
 *
 * Descriptors of the program: status, go, stdin, stdout, stderr, cgroup0…n, [init]; places: dir, file, tree.
 */

export interface RootfsLayers {
  /** Top first. */
  readonly lower: readonly string[];
  readonly upper: string;
  readonly work: string;
  readonly mountPoint: string;
  /** Overlays of an unprivileged user keep their attributes as user.overlay.* (overlayfs.rst, "userxattr"). */
  readonly userxattr: boolean;
}

export interface ContainerProgram {
  readonly config: OciConfig;
  readonly layers: RootfsLayers;
  readonly cgroups: number;
  /** Files that the runtime gives every container, by path; parents exist in the image. */
  readonly files: Readonly<Record<string, string>>;
  /** Id of the container's root as the builder sees it: owner of mount points that it makes. */
  readonly rootId: number;
  /** The program has a descriptor `userns`: shares show the host's owners through it (0 as 0), not as nobody. */
  readonly mapShares: boolean;
  readonly lastCapability: number;
}

export const places = { dir: -1, file: -1, tree: -1 } as const;

export function containerProgram(request: ContainerProgram): Step[] {
  const { config } = request;
  const isShare = (mount: OciMount) => mount.type === 'bind';
  return [
    { call: 'setsid', args: [] },
    ...joinCgroups(request.cgroups),
    { call: 'unshare', args: [CLONE.NEWNS] },
    { call: 'mount', args: ['none', '/', '', MS.REC | MS.PRIVATE, 0], note: 'nothing mounted here shows on the host' },
    overlay(request.layers),
    { call: 'chdir', args: [request.layers.mountPoint] },
    ...config.mounts.filter(isShare).flatMap((mount) => share(mount, request)),
    { call: 'unshare', args: [CLONE.NEWTIME], mode: 'may' },
    {
      call: 'unshare',
      args: [CLONE.NEWUSER | CLONE.NEWNS | CLONE.NEWPID | CLONE.NEWNET | CLONE.NEWUTS | CLONE.NEWIPC | CLONE.NEWCGROUP],
    },
    { report: 'unshared' },
    { call: 'read', args: [{ fd: 'go' }, { bytes: new Uint8Array(8), out: true }, 1], mode: 'positive' },
    { fork: CLONE.PARENT | SIGCHLD, as: 'pid', parent: [{ report: 'forked', value: 'pid' }] },
    ...becomeUser({ uid: 0, gid: 0, groups: [] }),
    ...ownRoot,
    ...config.mounts.filter((mount) => !isShare(mount)).flatMap(kernelMount),
    ...devices,
    ...Object.entries(request.files).flatMap(([path, content]) => writeFile(path, content)),
    ...config.linux.maskedPaths.flatMap(mask),
    ...config.linux.readonlyPaths.flatMap(makeReadonly),
    { call: 'pivot_root', args: ['.', '.'] },
    { call: 'umount2', args: ['.', MNT_DETACH] },
    { call: 'chdir', args: [config.process.cwd] },
    { call: 'sethostname', args: [config.hostname, Buffer.byteLength(config.hostname)] },
    { call: 'setsid', args: [] },
    { call: 'umask', args: [config.process.user.umask] },
    ...reducePrivileges(config.process.capabilities.bounding, request.lastCapability, {
      uid: config.process.user.uid,
      gid: config.process.user.gid,
      groups: [],
    }),
    {
      call: 'read',
      args: [{ fd: 'go' }, { bytes: new Uint8Array(8), out: true }, 1],
      mode: 'positive',
      note: 'until the state knows us',
    },
    ...stdio(),
    ...execute(config.process.args, config.process.env),
  ];
}

/** Enters a running container and executes a command there. Descriptor `target` is a pidfd of its PID 1. */
export function execProgram(request: {
  readonly argv: readonly string[];
  readonly env: readonly string[];
  readonly cwd: string;
  readonly user: UserIds;
  readonly terminal: boolean;
  readonly cgroups: number;
  readonly capabilities: readonly string[];
  readonly lastCapability: number;
}): Step[] {
  const all =
    CLONE.NEWUSER |
    CLONE.NEWNS |
    CLONE.NEWPID |
    CLONE.NEWNET |
    CLONE.NEWUTS |
    CLONE.NEWIPC |
    CLONE.NEWCGROUP |
    CLONE.NEWTIME;
  return [
    ...joinCgroups(request.cgroups),
    { call: 'setns', args: [{ fd: 'target' }, all] },
    { fork: CLONE.PARENT | SIGCHLD, as: 'pid', parent: [{ report: 'forked', value: 'pid' }] },
    { call: 'setsid', args: [] },
    { call: 'umask', args: [0o22] },
    ...becomeUser({ uid: 0, gid: 0, groups: [] }),
    ...reducePrivileges(request.capabilities, request.lastCapability, request.user),
    { call: 'chdir', args: [request.cwd], note: 'working directory' },
    ...stdio(),
    ...(request.terminal ? [{ call: 'ioctl', args: [0, 0x540e, 0], note: 'TIOCSCTTY' } satisfies Step] : []),
    ...execute(request.argv, request.env),
  ];
}

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

export interface UserIds {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
}

function joinCgroups(count: number): Step[] {
  return Array.from({ length: count }, (_, i) => ({
    call: 'write',
    args: [{ fd: `cgroup${i}` }, '0', 1],
    note: 'join the cgroup',
  }));
}

/** Overlay options separate paths by colons and each other by commas: both are escaped (overlayfs.rst). */
const escapePath = (path: string): string => path.replace(/[\\:,]/g, (char) => `\\${char}`);

function overlay(layers: RootfsLayers): Step {
  const options = [
    `lowerdir=${layers.lower.map(escapePath).join(':')}`,
    `upperdir=${escapePath(layers.upper)}`,
    `workdir=${escapePath(layers.work)}`,
    ...(layers.userxattr ? ['userxattr'] : []),
  ];
  return {
    call: 'mount',
    args: ['overlay', layers.mountPoint, 'overlay', MS.NODEV, options.join(',')],
    note: 'root file system',
  };
}

/** Opens what a path of the container names, without ever leaving the working directory, into place `dir` (openat2(2)). */
function openInRoot(
  path: string,
  flags: number,
  options: { into?: 'dir' | 'file'; from?: Argument; resolve?: number; mode?: 'must' | 'may'; create?: number } = {},
): Step[] {
  const how = openHow(flags, options.resolve ?? RESOLVE.IN_ROOT, options.create ?? 0);
  const relative = path.replace(/^\/+/, '') || '.';
  const name = `opened ${path} ${flags} ${JSON.stringify(options.from ?? null)} ${counter++}`;
  return [
    {
      call: 'openat2',
      args: [options.from ?? AT.FDCWD, relative, { bytes: how }, 24],
      as: name,
      mode: options.mode ?? 'must',
      note: 'inside the root file system',
    },
    { call: 'dup3', args: [{ result: name }, { fd: options.into ?? 'dir' }, O.CLOEXEC], mode: options.mode ?? 'must' },
  ];
}
let counter = 0;

/** struct open_how of openat2(2). */
export function openHow(flags: number, resolve: number, mode: number): Buffer {
  const how = Buffer.alloc(24);
  how.writeBigUInt64LE(BigInt(flags | O.CLOEXEC), 0);
  how.writeBigUInt64LE(BigInt(mode), 8);
  how.writeBigUInt64LE(BigInt(resolve | RESOLVE.NO_MAGICLINKS), 16);
  return how;
}

/** Makes a folder and its parents, each step resolved inside the root. Existing ones stay as they are. */
function makeFolders(path: string, owner: number): Step[] {
  const parts = path.split('/').filter((part) => part !== '');
  return parts.flatMap((part, i) => [
    ...openInRoot(`/${parts.slice(0, i).join('/')}`, O.PATH | O.DIRECTORY),
    {
      try: { call: 'mkdirat', args: [{ fd: 'dir' }, part, 0o755] },
      unless: 'error',
      steps:
        owner === 0
          ? []
          : [
              {
                call: 'fchownat',
                args: [{ fd: 'dir' }, part, owner, owner, 0x100],
                mode: 'may',
                note: 'AT_SYMLINK_NOFOLLOW',
              } satisfies Step,
            ],
    } satisfies Step,
  ]);
}

/** Binds a file or folder of the host: as a detached copy, restricted, then attached by descriptor. */
function share(mount: OciMount, { rootId: owner, mapShares }: ContainerProgram): Step[] {
  const readonly = mount.options.includes('ro');
  const attributes = MOUNT_ATTR.NOSUID | MOUNT_ATTR.NODEV | (readonly ? MOUNT_ATTR.RDONLY : 0);
  const isFile = mount.options.includes('file');
  const tree = `tree ${mount.destination}`;
  return [
    ...makeFolders(isFile ? posix.dirname(mount.destination) : mount.destination, owner),
    ...(isFile
      ? [
          ...openInRoot(posix.dirname(mount.destination), O.PATH | O.DIRECTORY),
          ...openInRoot(posix.basename(mount.destination), O.CREAT | O.WRONLY | O.EXCL, {
            from: { fd: 'dir' },
            into: 'file',
            create: 0o644,
            mode: 'may',
          }),
        ]
      : []),
    {
      call: 'open_tree',
      args: [AT.FDCWD, mount.source, OPEN_TREE.CLONE | OPEN_TREE.CLOEXEC | AT.RECURSIVE],
      as: tree,
      note: `share ${mount.source}`,
    },
    { call: 'dup3', args: [{ result: tree }, { fd: 'tree' }, O.CLOEXEC] },
    {
      call: 'mount_setattr',
      args: [{ fd: 'tree' }, '', AT.EMPTY_PATH | AT.RECURSIVE, { words: [attributes, 0, 0, 0] }, 32],
    },
    // Reading works without it; writing would not.
    ...(mapShares
      ? [
          {
            call: 'mount_setattr',
            args: [
              { fd: 'tree' },
              '',
              AT.EMPTY_PATH | AT.RECURSIVE,
              { words: [MOUNT_ATTR.IDMAP, 0, 0, { fd: 'userns' }] },
              32,
            ],
            mode: readonly ? 'may' : 'must',
            note: `owners of the share ${mount.source} (its file system must support idmapped mounts)`,
          } satisfies Step,
        ]
      : []),
    ...openInRoot(mount.destination, O.PATH),
    {
      call: 'move_mount',
      args: [{ fd: 'tree' }, '', { fd: 'dir' }, '', MOVE_MOUNT.F_EMPTY_PATH | MOVE_MOUNT.T_EMPTY_PATH],
      note: `share at ${mount.destination}`,
    },
  ];
}

/** The root file system came with the builder's mount namespace and is locked; a copy of it is the container's own. */
const ownRoot: readonly Step[] = [
  { call: 'open_tree', args: [AT.FDCWD, '.', OPEN_TREE.CLONE | OPEN_TREE.CLOEXEC | AT.RECURSIVE], as: 'root' },
  { call: 'dup3', args: [{ result: 'root' }, { fd: 'tree' }, O.CLOEXEC] },
  { call: 'move_mount', args: [{ fd: 'tree' }, '', AT.FDCWD, '.', MOVE_MOUNT.F_EMPTY_PATH] },
  { call: 'fchdir', args: [{ fd: 'tree' }] },
];

const mountFlags: Readonly<Record<string, number>> = {
  ro: MS.RDONLY,
  nosuid: MS.NOSUID,
  nodev: MS.NODEV,
  noexec: MS.NOEXEC,
};

/** A kernel file system at a place that is no symbolic link, nor behind one. */
function kernelMount(mount: OciMount): Step[] {
  const flags = mount.options.reduce((sum, option) => sum | (mountFlags[option] ?? 0), 0);
  const data = mount.options.filter((option) => mountFlags[option] === undefined).join(',');
  return [
    { call: 'mkdirat', args: [AT.FDCWD, mount.destination.slice(1), 0o755], mode: 'may' },
    ...openInRoot(mount.destination, O.PATH | O.DIRECTORY | O.NOFOLLOW, {
      resolve: RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS,
    }),
    {
      call: 'mount',
      args: [mount.source, { fdPath: 'dir' }, mount.type, flags, data === '' ? 0 : data],
      note: mount.destination,
    },
  ];
}

/** The device nodes that every program expects: the host's own, since nobody may make new ones in a user namespace. */
const devices: readonly Step[] = [
  ...['null', 'zero', 'full', 'random', 'urandom', 'tty'].flatMap((name): Step[] => [
    ...openInRoot(`dev/${name}`, O.CREAT | O.EXCL | O.RDONLY, {
      resolve: RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS,
      create: 0o666,
    }),
    { call: 'mount', args: [`/dev/${name}`, { fdPath: 'dir' }, '', MS.BIND, 0] },
  ]),
  ...(
    [
      ['/proc/self/fd', 'fd'],
      ['/proc/self/fd/0', 'stdin'],
      ['/proc/self/fd/1', 'stdout'],
      ['/proc/self/fd/2', 'stderr'],
      ['pts/ptmx', 'ptmx'],
    ] as const
  ).map(([target, name]): Step => ({ call: 'symlinkat', args: [target, AT.FDCWD, `dev/${name}`] })),
];

/** Replaces a file of the container; a link that is in its place is removed, not followed. */
function writeFile(path: string, content: string): Step[] {
  const bytes = Buffer.from(content);
  return [
    ...openInRoot(posix.dirname(path), O.PATH | O.DIRECTORY),
    { call: 'unlinkat', args: [{ fd: 'dir' }, posix.basename(path), 0], mode: 'may' },
    ...openInRoot(posix.basename(path), O.CREAT | O.EXCL | O.WRONLY, {
      from: { fd: 'dir' },
      into: 'file',
      resolve: RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS,
      create: 0o644,
    }),
    { call: 'write', args: [{ fd: 'file' }, { bytes }, bytes.length], note: path },
  ];
}

/** Hides a file behind /dev/null, or a folder behind an empty read-only tmpfs; whichever of the two it is. */
function mask(path: string): Step[] {
  const place = path.slice(1);
  return [
    { call: 'mount', args: ['/dev/null', place, '', MS.BIND, 0], mode: 'may', note: 'hidden' },
    {
      call: 'mount',
      args: ['tmpfs', `${place}/`, 'tmpfs', MS.RDONLY | MS.NOSUID | MS.NODEV | MS.NOEXEC, 'size=0,nr_inodes=2'],
      mode: 'may',
      note: 'hidden',
    },
  ];
}

function makeReadonly(path: string): Step[] {
  const place = path.slice(1);
  return [
    { call: 'mount', args: [place, place, '', MS.BIND | MS.REC, 0], mode: 'may' },
    {
      call: 'mount',
      args: ['', place, '', MS.REMOUNT | MS.BIND | MS.RDONLY | MS.NOSUID | MS.NODEV | MS.NOEXEC, 0],
      mode: 'may',
      note: 'read-only',
    },
  ];
}

function becomeUser(user: UserIds): Step[] {
  const groups = Buffer.alloc(Math.max(4, user.groups.length * 4));
  user.groups.forEach((group, i) => {
    groups.writeUInt32LE(group, i * 4);
  });
  return [
    { call: 'setgroups', args: [user.groups.length, { bytes: groups }] },
    { call: 'setresgid', args: [user.gid, user.gid, user.gid] },
    { call: 'setresuid', args: [user.uid, user.uid, user.uid] },
  ];
}

/** Bounding set, user, capabilities, no way up again. */
function reducePrivileges(capabilities: readonly string[], lastCapability: number, user: UserIds): Step[] {
  const allowed = capabilityMask(capabilities);
  const { header, data } = capsetArguments(user.uid === 0 ? allowed : 0n);
  const dropped = Array.from({ length: lastCapability + 1 }, (_, number) => number).filter(
    (number) => (allowed & (1n << BigInt(number))) === 0n,
  );
  return [
    { call: 'keyctl', args: [1, 0], mode: 'may', note: 'a session keyring of its own' },
    ...dropped.map(
      (number): Step => ({
        call: 'prctl',
        args: [PR.CAPBSET_DROP, number],
        note: `drop ${capabilityNames[number] ?? number}`,
      }),
    ),
    ...becomeUser(user),
    { call: 'capset', args: [{ bytes: header }, { bytes: data }] },
    { call: 'prctl', args: [PR.SET_NO_NEW_PRIVS, 1, 0, 0, 0] },
  ];
}

/** execve(2) of a command as a shell would find it; without one, the init that the agent passed as a descriptor. */
function execute(argv: readonly string[], env: readonly string[]): Step[] {
  const [command] = argv;
  if (command === undefined) {
    return [
      { call: 'execveat', args: [{ fd: 'init' }, '', { strings: ['tsv-init'] }, { strings: [...env] }, AT.EMPTY_PATH] },
    ];
  }
  const path = env.find((entry) => entry.startsWith('PATH='))?.slice(5) ?? '';
  const candidates = command.includes('/') ? [command] : path.split(':').map((dir) => `${dir}/${command}`);
  return candidates.map((file, i) => ({
    call: 'execve',
    args: [file, { strings: [...argv] }, { strings: [...env] }],
    mode: i < candidates.length - 1 ? 'may' : 'must',
  }));
}
