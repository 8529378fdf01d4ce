import { AT, CLONE, MNT_DETACH, MOUNT_ATTR, MOVE_MOUNT, MS, O, OPEN_TREE, PR, SIGCHLD } from '../sys/flags.ts';
import { type Keeper, underKeeper } from '../sys/keeper.ts';
import { procHow } from '../sys/procfs.ts';
import type { Step } from '../sys/program.ts';
import { bringDevices, type DeviceSource, devLinks, type HostIds, makeDevices, ownDev } from './devices.ts';
import { lateReadonly, makeReadonly, mask, mountAll, openBinds, type PlannedMount, releaseCopies } from './mounts.ts';
import { joinNamespaces, type NamespacePlan } from './namespaces.ts';
import { keepAs, makeFolders, openHow, openInRoot, writeFile } from './paths.ts';
import { becomeUser, execute, finish, reduce, requireCommand } from './privileges.ts';
import { ownOrHostProc } from './proc.ts';
import type { OciConfig, OciDevice, OciNamespaceType, OciProcess } from './spec.ts';
import { controlTerminal, openTerminal, type TerminalRequest } from './terminal.ts';
import { sysctlFile } from './validate-sysctl.ts';

/*
 * How a container starts, as a syscall program (src/sys/program.ts). Two processes take part:
 *
 *   builder   has the caller's rights: joins cgroups and given namespaces, own mount namespace, root file system. Where a
 *             user namespace follows, it takes hold of devices and of what is to be bound (it may lie in folders that only
 *             the caller may enter). Then it makes all other namespaces, says `unshared`, and waits while the caller maps
 *             ids and lays cables. Then it forks and ends.
 *   init      PID 1, root of the container only: mounts, devices, files; says `mounted` and waits while the caller runs
 *             hooks and sets limits; pivot_root, fewer privileges; says `ready` and waits for the start; execve.
 *
 * A caller without privileges makes the user namespace first, and all the rest in it.
 *
 * With a keeper, the builder and so the init are its children, instead of the caller's.
 *
 * Descriptors of the program: status, go, stdin, stdout, stderr, cgroup0…n, ns-TYPE, bindN, deviceN, [init], [proc], …; see
 * `places` for those that the program opens itself.
 */

export interface RootfsLayers {
  /** Top first. */
  readonly lower: readonly string[];
  /** Where relative names in `lower` begin: mount(2) takes no more than a page of options, and 127 long paths are more. */
  readonly folder?: string;
  readonly upper: string;
  readonly work: string;
  readonly mountPoint: string;
  /** Overlays of an unprivileged user keep their attributes as user.overlay.* (overlayfs.rst, "userxattr"). */
  readonly userxattr: boolean;
}

export interface CreateProgram {
  readonly config: OciConfig;
  /** A folder, or layers that an overlay file system puts together. */
  readonly rootfs: string | RootfsLayers;
  /** The mount that the folder is on: it must not be shared for pivot_root(2). */
  readonly rootfsMount?: string;
  readonly cgroups: number;
  readonly namespaces: NamespacePlan;
  readonly ownedNamespaces: ReadonlySet<OciNamespaceType>;
  readonly mounts: readonly PlannedMount[];
  readonly devices: readonly OciDevice[];
  /** The caller may make namespaces and mounts as it is. */
  readonly privileged: boolean;
  readonly deviceSource: DeviceSource;
  /** For the source `bring`. */
  readonly hostIds: HostIds;
  /** Files that every container is given, by path. */
  readonly files: Readonly<Record<string, string>>;
  readonly lastCapability: number;
  readonly bounding: bigint;
  readonly groups: 'must' | 'may';
  readonly terminal?: TerminalRequest;
  /** Descriptors of stdio that the process's user is to own, so that it can open them again. */
  readonly ownStdio: readonly string[];
  /**
   * How the start is waited for: by the caller's pipe, or, when the caller goes away meanwhile, by two FIFOs that the
   * container keeps open, `start` to read from and `result` to tell by.
   */
  readonly gate: 'pipe' | 'fifo';
  /** PID 1 is the init of descriptor `init`; the command, if there is one, its child. */
  readonly init: boolean;
  /** Descriptors `preserved0` and so on, which the process gets from 3 on. */
  readonly preserved: number;
  /** The root is moved and entered by chroot(2), for a host whose root is a ramdisk: pivot_root(2) does not work there. */
  readonly noPivot: boolean;
  /** It has a keeper (src/sys/keeper.ts). */
  readonly keeper?: Pick<Keeper, 'label'>;
  /** Where the host has proc and sysfs mounted, deepest first; for `noPivot`. */
  readonly hostKernelMounts?: readonly string[];
}

export function createProgram(request: CreateProgram): Step[] {
  const { config, namespaces, privileged, ownedNamespaces: owned } = request;
  const userFirst = !privileged && namespaces.user;
  const others = unshare(namespaces.others);
  const withUser = (namespaces.newUser ? CLONE.NEWUSER : 0) | (namespaces.newMount ? CLONE.NEWNS : 0);
  return [
    ...(request.keeper === undefined ? [] : underKeeper(request.keeper, { builder: true })),
    { call: 'umask', args: [0] },
    { call: 'setsid', args: [] },
    ...joinCgroups(request.cgroups),
    ...(userFirst
      ? [
          ...(namespaces.newUser ? unshare(CLONE.NEWUSER) : joinNamespaces(namespaces, owned, 'after')),
          ...pause('unshared'),
          ...root('may'),
        ]
      : joinNamespaces(namespaces, owned, 'before')),
    ...(namespaces.newMount ? ownMounts(request) : []),
    ...(request.deviceSource === 'bring' ? bringDevices(request.devices, rootFolder(request), request.hostIds) : []),
    ...prepareRootfs(request),
    ...(namespaces.user ? openBinds(request.mounts) : []),
    ...(namespaces.newTime ? timeNamespace(config) : []),
    ...(userFirst
      ? [...others, ...joinNamespaces(namespaces, owned, 'before')]
      : [
          ...joinNamespaces(namespaces, owned, 'after'),
          ...(namespaces.user ? unshare(namespaces.others | withUser) : others),
          ...pause('unshared'),
        ]),
    { fork: CLONE.PARENT | SIGCHLD, as: 'pid', parent: [{ report: 'forked', value: 'pid' }] },
    ...(namespaces.user ? root(request.groups) : []),
    ...(namespaces.user && privileged && namespaces.newMount ? ownRoot : []),
    ...mountAll(request.mounts, namespaces.user),
    ...(ownDev(config) ? [...makeDevices(request.devices, request.deviceSource), ...devLinks()] : []),
    ...(request.terminal === undefined ? [] : openTerminal(request.terminal)),
    ...Object.entries(request.files).flatMap(([path, content]) => writeFile(path, content)),
    ...(config.process === undefined ? [] : makeFolders(config.process.cwd)),
    ...pause('mounted'),
    ...releaseCopies(request.mounts),
    ...lateReadonly(request.mounts),
    // From here on nobody in a namespace that it shares can look into it. (Nor could a caller without privileges.)
    ...(privileged ? [{ call: 'prctl', args: [PR.SET_DUMPABLE, 0, 0, 0, 0] } satisfies Step] : []),
    ...sysctls(config),
    ...(config.linux?.maskedPaths ?? []).map(mask),
    ...(config.linux?.readonlyPaths ?? []).map(makeReadonly),
    ...enterRootfs(request),
    ...identity(config),
    { call: 'setsid', args: [] },
    ...(request.terminal === undefined ? [] : controlTerminal),
    ...startProcess(request),
  ];
}

const unshare = (flags: number): Step[] => (flags === 0 ? [] : [{ call: 'unshare', args: [flags] }]);

export function joinCgroups(count: number): Step[] {
  return Array.from({ length: count }, (_, i) => ({
    call: 'write',
    args: [{ fd: `cgroup${i}` }, '0', 1],
    note: 'join the cgroup',
  }));
}

const awaitGo: Step = {
  call: 'read',
  args: [{ fd: 'go' }, { bytes: new Uint8Array(8), out: true }, 1],
  mode: 'positive',
};

/** Says how far it is, and waits. */
export const pause = (report: 'unshared' | 'mounted'): Step[] => [{ report }, awaitGo];

const root = (groups: 'must' | 'may'): Step[] => becomeUser({ uid: 0, gid: 0, groups: [] }, groups);

const propagationFlags = {
  shared: MS.SHARED,
  slave: MS.SLAVE,
  private: MS.PRIVATE,
  unbindable: MS.UNBINDABLE,
} as const;

/** A mount namespace whose mounts do not show on the host; unless it is asked for, what the host mounts shows here. */
function ownMounts({ config, rootfsMount }: CreateProgram): Step[] {
  const wanted = config.linux?.rootfsPropagation ?? 'slave';
  // What is unbindable could not be bound: it becomes so at the end.
  const propagation = propagationFlags[wanted === 'unbindable' ? 'private' : wanted];
  return [
    { call: 'unshare', args: [CLONE.NEWNS] },
    { call: 'mount', args: ['none', '/', '', MS.REC | propagation, 0] },
    ...(rootfsMount === undefined || propagation !== MS.SHARED
      ? []
      : [
          { call: 'mount', args: ['none', rootfsMount, '', MS.PRIVATE, 0], note: 'pivot_root needs it' } satisfies Step,
        ]),
  ];
}

/** time_namespaces(7): its offsets are set before the first process is in it. */
function timeNamespace(config: OciConfig): Step[] {
  const lines = Object.entries(config.linux?.timeOffsets ?? {})
    .map(([clock, { secs = 0, nanosecs = 0 }]) => `${clock} ${secs} ${nanosecs}\n`)
    .join('');
  const note = 'linux.timeOffsets';
  return [
    ...unshare(CLONE.NEWTIME),
    ...(lines === ''
      ? []
      : ([
          {
            call: 'openat2',
            args: [{ fd: 'proc' }, 'self/timens_offsets', { bytes: procHow() }, 24],
            as: 'offsets',
            note,
          },
          ...keepAs('offsets', 'file'),
          { call: 'write', args: [{ fd: 'file' }, lines, Buffer.byteLength(lines)], note },
        ] satisfies Step[])),
  ];
}

const rootFolder = ({ rootfs }: CreateProgram): string => (typeof rootfs === 'string' ? rootfs : rootfs.mountPoint);

/** The root file system becomes a mount of its own, and the working directory. */
function prepareRootfs({ rootfs }: CreateProgram): Step[] {
  if (typeof rootfs !== 'string') {
    return [...overlay(rootfs), { call: 'chdir', args: [rootfs.mountPoint] }];
  }
  return [
    { call: 'mount', args: [rootfs, rootfs, '', MS.BIND | MS.REC, 0], note: 'root file system' },
    { call: 'chdir', args: [rootfs] },
  ];
}

/** Overlay options separate paths by colons and each other by commas: both are escaped (overlayfs.rst). */
const escapePath = (path: string): string => path.replace(/[\\:,]/g, (char) => `\\${char}`);

function overlay(layers: Omit<RootfsLayers, 'upper' | 'work'> & Partial<RootfsLayers>): Step[] {
  const options = [
    `lowerdir=${layers.lower.map(escapePath).join(':')}`,
    ...(layers.upper === undefined ? [] : [`upperdir=${escapePath(layers.upper)}`]),
    ...(layers.work === undefined ? [] : [`workdir=${escapePath(layers.work)}`]),
    ...(layers.userxattr ? ['userxattr'] : []),
  ];
  return [
    ...(layers.folder === undefined ? [] : [{ call: 'chdir', args: [layers.folder] } satisfies Step]),
    {
      call: 'mount',
      args: ['overlay', layers.mountPoint, 'overlay', MS.NODEV, options.join(',')],
      note: 'root file system',
    },
  ];
}

/**
 * Shows layers in a mount namespace of its own, read-only, for as long as the caller does not let it go: what a container
 * of them would find, before there is one.
 */
export const viewProgram = (layers: Pick<RootfsLayers, 'lower' | 'folder' | 'mountPoint' | 'userxattr'>): Step[] => [
  { call: 'unshare', args: [CLONE.NEWNS] },
  { call: 'mount', args: ['none', '/', '', MS.REC | MS.PRIVATE, 0] },
  ...overlay(layers),
  ...pause('mounted'),
  { call: 'exit_group', args: [0] },
];

/** The root file system came with the builder's mount namespace and is locked; a copy of it is the container's own. */
const ownRoot: readonly Step[] = [
  {
    call: 'open_tree',
    args: [AT.FDCWD, '.', OPEN_TREE.CLONE | OPEN_TREE.CLOEXEC | AT.RECURSIVE],
    as: 'the root',
  },
  ...keepAs('the root', 'tree'),
  { call: 'move_mount', args: [{ fd: 'tree' }, '', AT.FDCWD, '.', MOVE_MOUNT.F_EMPTY_PATH] },
  { call: 'fchdir', args: [{ fd: 'tree' }] },
];

/**
 * Through a proc file system that the image has no part in (CVE-2019-16884): one that is nowhere mounted, or, where none
 * can be made, the host's, whose root is still this process's. Either shows the namespaces of who asks.
 */
function sysctls(config: OciConfig): Step[] {
  const entries = Object.entries(config.linux?.sysctl ?? {});
  if (entries.length === 0) return [];
  return [
    ...ownOrHostProc,
    ...entries.flatMap(([key, value]): Step[] => [
      ...openInRoot(`sys/${sysctlFile(key) ?? key}`, O.WRONLY, {
        from: { fd: 'tree' },
        into: 'file',
        note: `sysctl ${key}`,
      }),
      { call: 'write', args: [{ fd: 'file' }, value, Buffer.byteLength(value)], note: `sysctl ${key}=${value}` },
    ]),
  ];
}

/** pivot_root(2), and the old root is gone: as a slave, so that its unmounting stays in here. */
function enterRootfs({ config, noPivot, hostKernelMounts }: CreateProgram): Step[] {
  const propagation = config.linux?.rootfsPropagation;
  return [
    ...(noPivot ? moveRoot(hostKernelMounts ?? []) : pivotRoot),
    ...(propagation === undefined
      ? []
      : [{ call: 'mount', args: ['none', '/', '', propagationFlags[propagation], 0] } satisfies Step]),
    ...(config.root?.readonly === true
      ? [
          {
            call: 'mount_setattr',
            args: [AT.FDCWD, '/', 0, { words: [MOUNT_ATTR.RDONLY, 0, 0, 0] }, 32],
            note: 'read-only root',
          } satisfies Step,
        ]
      : []),
  ];
}
const pivotRoot: readonly Step[] = [
  { call: 'openat2', args: [AT.FDCWD, '/', { bytes: openHow(O.PATH | O.DIRECTORY, 0) }, 24], as: 'the old root' },
  ...keepAs('the old root', 'root'),
  { call: 'pivot_root', args: ['.', '.'] },
  { call: 'fchdir', args: [{ fd: 'root' }] },
  { call: 'mount', args: ['none', '.', '', MS.SLAVE | MS.REC, 0] },
  { call: 'umount2', args: ['.', MNT_DETACH] },
  { call: 'close', args: [{ fd: 'root' }] },
  { call: 'chdir', args: ['/'] },
];

/** What is left of the host's proc and sysfs would be in reach: its mounts go first. */
const moveRoot = (hostKernelMounts: readonly string[]): Step[] => [
  ...hostKernelMounts.map(
    (path): Step => ({
      try: { call: 'umount2', args: [path, MNT_DETACH] },
      unless: 'error', // it came locked from another user namespace: then it is covered
      steps: [],
      otherwise: [{ call: 'mount', args: ['tmpfs', path, 'tmpfs', 0, 0] }],
    }),
  ),
  { call: 'mount', args: ['.', '/', '', MS.MOVE, 0] },
  { call: 'chroot', args: ['.'] },
  { call: 'chdir', args: ['/'] },
];

const personalities: Readonly<Record<string, number>> = { LINUX: 0, LINUX32: 8 };

function identity(config: OciConfig): Step[] {
  const { hostname, domainname, linux } = config;
  const domain = linux?.personality === undefined ? undefined : personalities[linux.personality.domain];
  return [
    ...(hostname === undefined
      ? []
      : [{ call: 'sethostname', args: [hostname, Buffer.byteLength(hostname)] } satisfies Step]),
    ...(domainname === undefined
      ? []
      : [{ call: 'setdomainname', args: [domainname, Buffer.byteLength(domainname)] } satisfies Step]),
    ...(domain === undefined ? [] : [{ call: 'personality', args: [domain] } satisfies Step]),
  ];
}

/** From here on it is the process of the configuration: its mask, its rights; it waits to be started, and executes. */
function startProcess(request: CreateProgram): Step[] {
  const { config, gate, init } = request;
  const { process } = config;
  const argv = process?.args ?? [];
  const env = process?.env ?? [];
  const reduction = {
    process: process ?? { args: [], cwd: '/' },
    ...(config.linux?.seccomp === undefined ? {} : { seccomp: config.linux.seccomp }),
    lastCapability: request.lastCapability,
    bounding: request.bounding,
    groups: request.groups,
  };
  const runInit = (argument: readonly string[]): Step => ({
    call: 'execveat',
    args: [{ fd: 'init' }, '', { strings: ['tsv-init', ...argument] }, { strings: [...env] }, AT.EMPTY_PATH],
  });
  return [
    { call: 'umask', args: [process?.user?.umask ?? 0o22] },
    ...chownStdio(request.ownStdio, process),
    ...reduce(reduction, [
      // Nobody can have entered yet: the command is process 2, which its init expects it to be.
      ...(init && argv.length > 0
        ? [{ fork: SIGCHLD, as: 'command', parent: [...finish(reduction), runInit(['-'])] } satisfies Step]
        : []),
      ...preserve(request.preserved),
      ...(argv.length === 0 ? [] : requireCommand(argv, env)),
      { report: 'ready' },
      ...(gate === 'pipe' ? [awaitGo] : awaitFifo),
    ]),
    ...(init && argv.length === 0 ? [runInit([])] : execute(argv, env)),
  ];
}

/** The process's user can open its terminal and pipes again by /dev/stdout and the like. */
export const chownStdio = (names: readonly string[], process: OciProcess | undefined): Step[] =>
  names.map((name) => ({ call: 'fchown', args: [{ fd: name }, process?.user?.uid ?? 0, -1], mode: 'may' }));

export const preserve = (count: number): Step[] =>
  Array.from({ length: count }, (_, i) => ({ call: 'dup3', args: [{ fd: `preserved${i}` }, 3 + i, 0] }));

/** What fails from here on is told to whoever starts: the FIFO takes the place of the caller's pipe. */
const awaitFifo: readonly Step[] = [
  { call: 'dup3', args: [{ fd: 'result' }, { fd: 'status' }, O.CLOEXEC] },
  { call: 'close', args: [{ fd: 'result' }] },
  { ...awaitGo, args: [{ fd: 'start' }, { bytes: new Uint8Array(8), out: true }, 1] } as Step,
];
