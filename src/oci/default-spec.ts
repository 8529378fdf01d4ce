import type { OciConfig, OciLinux, OciMount, OciNamespaceType } from './spec.ts';
import { ociVersion } from './validate.ts';

export interface DefaultSpecOptions {
  /** For a runtime without root: a user namespace in which its user is root, the host's network, no limits. */
  readonly rootless: boolean;
  /** Whether the host has cgroup v2 alone: then the container gets a cgroup namespace. */
  readonly cgroup2?: boolean;
  /** Of the user that is root in a rootless container; else who runs this. */
  readonly uid?: number;
  readonly gid?: number;
}

/** What `tsv oci spec` writes: a shell in `rootfs`, isolated as `runc spec` has it. */
export function defaultSpec(options: DefaultSpecOptions): OciConfig {
  const capabilities = ['CAP_AUDIT_WRITE', 'CAP_KILL', 'CAP_NET_BIND_SERVICE'];
  return {
    ociVersion,
    process: {
      terminal: true,
      user: { uid: 0, gid: 0 },
      args: ['sh'],
      env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'TERM=xterm'],
      cwd: '/',
      capabilities: {
        bounding: capabilities,
        effective: capabilities,
        permitted: capabilities,
        ambient: capabilities,
      },
      rlimits: [{ type: 'RLIMIT_NOFILE', hard: 1024, soft: 1024 }],
      noNewPrivileges: true,
    },
    root: { path: 'rootfs', readonly: true },
    hostname: 'tsv',
    mounts: mounts(options.rootless),
    linux: {
      ...(options.rootless ? ownMappings(options) : { resources: { devices: [{ allow: false, access: 'rwm' }] } }),
      namespaces: namespaces(options).map((type) => ({ type })),
      maskedPaths: [
        '/proc/acpi',
        '/proc/asound',
        '/proc/kcore',
        '/proc/keys',
        '/proc/latency_stats',
        '/proc/timer_list',
        '/proc/timer_stats',
        '/proc/sched_debug',
        '/sys/firmware',
        '/proc/scsi',
      ],
      readonlyPaths: ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'],
    },
  };
}

function mounts(rootless: boolean): readonly OciMount[] {
  const still = ['nosuid', 'noexec', 'nodev'];
  // Group 5 is not mapped without root, and sysfs belongs to the host's network namespace, which is kept.
  const pts = ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', ...(rootless ? [] : ['gid=5'])];
  const sys: OciMount = rootless
    ? { destination: '/sys', type: 'none', source: '/sys', options: ['rbind', ...still, 'ro'] }
    : { destination: '/sys', type: 'sysfs', source: 'sysfs', options: [...still, 'ro'] };
  return [
    { destination: '/proc', type: 'proc', source: 'proc' },
    {
      destination: '/dev',
      type: 'tmpfs',
      source: 'tmpfs',
      options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
    },
    { destination: '/dev/pts', type: 'devpts', source: 'devpts', options: pts },
    { destination: '/dev/shm', type: 'tmpfs', source: 'shm', options: [...still, 'mode=1777', 'size=65536k'] },
    { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: still },
    sys,
    { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: [...still, 'relatime', 'ro'] },
  ];
}

function namespaces({ rootless, cgroup2 = false }: DefaultSpecOptions): readonly OciNamespaceType[] {
  return [
    'pid',
    ...(rootless ? [] : (['network'] as const)),
    'ipc',
    'uts',
    'mount',
    ...(cgroup2 ? (['cgroup'] as const) : []),
    ...(rootless ? (['user'] as const) : []),
  ];
}

function ownMappings({ uid, gid }: DefaultSpecOptions): Pick<OciLinux, 'uidMappings' | 'gidMappings'> {
  const root = (hostID: number) => [{ containerID: 0, hostID, size: 1 }];
  return { uidMappings: root(uid ?? process.geteuid?.() ?? 0), gidMappings: root(gid ?? process.getegid?.() ?? 0) };
}
