import { containerProcess } from '../../src/model/container-process.ts';
import type { ContainerDefaults } from '../../src/model/image.ts';
import { type Device, type Isolation, isolationOf, type Ulimit } from '../../src/model/project.ts';
import type { MachineContext } from '../../src/model/provider.ts';
import { defaultSeccomp } from '../../src/oci/default-seccomp.ts';
import { defaultPath } from '../../src/oci/privileges.ts';
import type { OciConfig, OciDeviceRule, OciMount, OciProcess, OciSeccomp } from '../../src/oci/spec.ts';
import { capabilityNames } from '../../src/sys/capabilities.ts';
import type { DeviceNumber } from './disk-numbers.ts';
import type { DiskPlace } from './disks.ts';
import { limitsOf } from './limits.ts';
import type { PlacedShare } from './shares.ts';
import type { Volume } from './volumes.ts';

/** Capabilities of a container's root: what package installation and servers need, and nothing that reaches the host. */
export const usualCapabilities: readonly string[] = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FOWNER',
  'CAP_FSETID',
  'CAP_KILL',
  'CAP_SETGID',
  'CAP_SETUID',
  'CAP_SETPCAP',
  'CAP_NET_BIND_SERVICE',
  'CAP_SYS_CHROOT',
  'CAP_MKNOD',
  'CAP_AUDIT_WRITE',
  'CAP_SETFCAP',
];

/** Kernel interfaces that are not namespaced: hidden, or at least not writable. */
const maskedPaths = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/sys/devices/virtual/powercap',
  '/sys/firmware',
];
const readonlyPaths = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];

export interface ConfigHost {
  /** Ids of the container, as whoever starts it sees them. */
  readonly ids: readonly { readonly inside: number; readonly outside: number; readonly count: number }[];
  /** Of the kernel. */
  readonly lastCapability: number;
  /** The user that the first process becomes; names are known by the image only. */
  readonly user: {
    readonly uid: number;
    readonly gid: number;
    readonly groups: readonly number[];
    readonly home: string;
  };
  /** What a profile of the machine's own says. */
  readonly seccomp: OciSeccomp | undefined;
  /** For the machine's devices. */
  readonly devices: readonly OciDeviceRule[];
  /** For the machine's limits of `io`. */
  readonly limitedDisks: readonly DeviceNumber[];
  /** What the machine's image says; absent: it has none. */
  readonly image?: ContainerDefaults;
  readonly volumes?: readonly Volume[];
  readonly disks?: readonly DiskPlace[];
  /** Absent: the machine's, as they are. */
  readonly shares?: readonly PlacedShare[];
}

/** The bundle's config.json for a machine of a Tsfile. Pure. */
export function containerConfig(context: MachineContext, host: ConfigHost): OciConfig {
  const { machine } = context;
  const isolation = isolationOf(machine);
  const mapping = host.ids.map((range) => ({ containerID: range.inside, hostID: range.outside, size: range.count }));
  const capabilities = capabilitiesOf(isolation, host.lastCapability);
  const seccomp = machineSeccomp(isolation, capabilities, host.seccomp);
  const { args, env, workdir } = containerProcess(machine, host.image);
  const environment: Record<string, string> = {
    PATH: defaultPath,
    HOME: host.user.home,
    // What an image was made for is what Docker gives it.
    ...(host.image === undefined ? { LANG: 'C.UTF-8' } : { HOSTNAME: machine.hostname }),
    container: 'tsv',
    ...env,
  };
  const sysctls = { ...(host.image === undefined ? {} : imageSysctls), ...isolation.sysctls };
  return {
    ociVersion: '1.2.0',
    hostname: machine.hostname,
    root: { path: 'rootfs', readonly: isolation.readOnly },
    process: {
      terminal: false,
      user: { uid: host.user.uid, gid: host.user.gid, additionalGids: groupsOf(host), umask: 0o22 },
      args,
      env: Object.entries(environment).map(([name, value]) => `${name}=${value}`),
      cwd: workdir,
      capabilities: capabilitySets(capabilities, host.user.uid),
      noNewPrivileges: !isolation.privileged,
      rlimits: isolation.ulimits.map(rlimit),
    },
    mounts: [
      ...kernelMounts(isolation),
      ...[
        ...tmpfsMounts(isolation),
        ...deviceMounts(isolation.devices),
        ...shareMounts(host.shares ?? machine.shares),
        ...volumeMounts(host.volumes ?? []),
        ...diskMounts(host.disks ?? []),
      ].toSorted(byDepth),
    ],
    linux: {
      namespaces: (['user', 'mount', 'pid', 'network', 'uts', 'ipc', 'cgroup', 'time'] as const).map((type) => ({
        type,
      })),
      uidMappings: mapping,
      gidMappings: mapping,
      rootfsPropagation: 'private',
      cgroupsPath: `tsv/${context.projectId}/${machine.name}`,
      resources: {
        ...limitsOf(machine, host.limitedDisks),
        devices: host.devices,
      },
      ...(Object.keys(sysctls).length === 0 ? {} : { sysctl: sysctls }),
      ...(seccomp === undefined ? {} : { seccomp }),
      maskedPaths: isolation.privileged ? [] : maskedPaths,
      readonlyPaths: isolation.privileged ? [] : readonlyPaths,
    },
  };
}

/** With the own one among them, as Docker has it: what that group may not do, nobody may by leaving it. */
const groupsOf = ({ user, image }: ConfigHost): readonly number[] =>
  image === undefined ? user.groups : [...new Set([user.gid, ...user.groups])];

/** Images count on it: Docker lets each user of a container listen on each port. */
const imageSysctls = { 'net.ipv4.ip_unprivileged_port_start': '0' };

/** A command that is run in a machine besides its first process: with the same fences. */
export function commandProcess(
  config: OciConfig,
  command: Pick<OciProcess, 'args' | 'env' | 'cwd' | 'terminal'> & {
    readonly user: { readonly uid: number; readonly gid: number; readonly groups: readonly number[] };
  },
): OciProcess {
  const { user, ...rest } = command;
  return {
    ...rest,
    user: { uid: user.uid, gid: user.gid, additionalGids: user.groups, umask: 0o22 },
    capabilities: capabilitySets(config.process?.capabilities?.bounding ?? [], user.uid),
    noNewPrivileges: config.process?.noNewPrivileges ?? true,
    rlimits: config.process?.rlimits ?? [],
  };
}

/** The container's bounding set. */
export function capabilitiesOf({ capabilities }: Isolation, last: number): string[] {
  const wanted = new Set([...usualCapabilities, ...capabilities.add]);
  for (const name of capabilities.drop) wanted.delete(name);
  return capabilityNames.filter((name, number) => number <= last && wanted.has(name));
}

/** Only root has any at once; another user may get the rest of the bounding set by no way at all. */
const capabilitySets = (names: readonly string[], uid: number) => ({
  bounding: names,
  effective: uid === 0 ? names : [],
  permitted: uid === 0 ? names : [],
  inheritable: [],
  ambient: [],
});

function machineSeccomp(
  { seccomp }: Isolation,
  capabilities: readonly string[],
  own: OciSeccomp | undefined,
): OciSeccomp | undefined {
  if (seccomp === 'unconfined') return undefined;
  return seccomp === 'default' ? defaultSeccomp(capabilities) : own;
}

function rlimit({ name, soft, hard }: Ulimit) {
  const infinity = 2 ** 64;
  const value = (limit: number | 'unlimited') => (limit === 'unlimited' ? infinity : limit);
  return { type: name, soft: value(soft), hard: value(hard) };
}

const kernelMounts = ({ privileged, shmBytes }: Isolation): readonly OciMount[] => [
  { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'nodev', 'noexec'] },
  {
    destination: '/sys',
    type: 'sysfs',
    source: 'sysfs',
    options: ['nosuid', 'nodev', 'noexec', ...(privileged ? [] : ['ro'])],
  },
  {
    destination: '/sys/fs/cgroup',
    type: 'cgroup',
    source: 'cgroup',
    options: ['nosuid', 'nodev', 'noexec', ...(privileged ? [] : ['ro'])],
  },
  { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755', 'size=65536k'] },
  {
    destination: '/dev/pts',
    type: 'devpts',
    source: 'devpts',
    options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
  },
  {
    destination: '/dev/shm',
    type: 'tmpfs',
    source: 'shm',
    options: ['nosuid', 'nodev', 'noexec', 'mode=1777', `size=${shmBytes}`],
  },
  { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'nodev', 'noexec'] },
];

const tmpfsMounts = ({ tmpfs }: Isolation): OciMount[] =>
  tmpfs.map(({ path, sizeBytes, mode }) => ({
    destination: path,
    type: 'tmpfs',
    source: 'tmpfs',
    options: [
      'nosuid',
      'nodev',
      ...(sizeBytes === undefined ? [] : [`size=${sizeBytes}`]),
      `mode=${(mode ?? 0o1777).toString(8)}`,
    ],
  }));

/** A device of the host by its node: in a user namespace nobody can make another. */
const deviceMounts = (devices: readonly Device[]): OciMount[] =>
  devices.map(({ host, container, access }) => ({
    destination: container,
    type: 'bind',
    source: host,
    options: ['bind', 'nosuid', 'noexec', ...(access.includes('w') ? [] : ['ro'])],
  }));

const shareMounts = (shares: readonly PlacedShare[]): OciMount[] =>
  shares.map(({ host, guest, readonly, mappings }) => ({
    destination: guest,
    type: 'bind',
    source: host,
    options: [
      'rbind',
      'rnosuid',
      'rnodev',
      ...(readonly ? ['rro'] : []),
      ...(mappings === undefined ? [] : ['ridmap']),
    ],
    ...(mappings === undefined ? {} : { uidMappings: mappings.uids, gidMappings: mappings.gids }),
  }));

const volumeMounts = (volumes: readonly Volume[]): OciMount[] =>
  volumes.map(({ path, folder, readonly }) => ({
    destination: path,
    type: 'bind',
    source: folder,
    options: ['bind', 'nosuid', 'nodev', ...(readonly ? ['ro'] : [])],
  }));

/** What is bound is the file system in the image, whose descriptor the runtime gets; its ids are the container's own. */
const diskMounts = (disks: readonly DiskPlace[]): OciMount[] =>
  disks.map(({ path, file }) => ({
    destination: path,
    type: 'bind',
    source: file,
    options: ['bind', 'idmap', 'nosuid', 'nodev'],
  }));

/** What is mounted below another mount comes after it. */
const byDepth = (a: OciMount, b: OciMount): number => depth(a.destination) - depth(b.destination);
const depth = (path: string): number => path.split('/').filter(Boolean).length;
