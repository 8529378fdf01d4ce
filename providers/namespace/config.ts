import { statSync } from 'node:fs';
import type { MachineContext } from '../../src/model/provider.ts';
import type { OciConfig, OciMount } from './oci.ts';

/** Capabilities of a container's root: what package installation and servers need, and nothing that reaches the host. */
export const defaultCapabilities = [
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
] as const;

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

const cpuPeriodUs = 100_000;

export const defaultPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** The bundle's config.json for a machine of a Tsfile. */
export function containerConfig(
  context: MachineContext,
  idsOutside: readonly { inside: number; outside: number; count: number }[],
): OciConfig {
  const { machine } = context;
  const mapping = idsOutside.map((range) => ({ containerID: range.inside, hostID: range.outside, size: range.count }));
  const environment: Record<string, string> = {
    PATH: defaultPath,
    HOME: '/root',
    LANG: 'C.UTF-8',
    container: 'tsv',
    ...machine.env,
  };
  return {
    ociVersion: '1.2.0',
    hostname: machine.hostname,
    root: { path: 'rootfs', readonly: false },
    process: {
      terminal: false,
      user: { uid: 0, gid: 0, umask: 0o22 },
      args: machine.command ?? [],
      env: Object.entries(environment).map(([name, value]) => `${name}=${value}`),
      cwd: '/',
      capabilities: { bounding: defaultCapabilities, effective: defaultCapabilities, permitted: defaultCapabilities },
      noNewPrivileges: true,
    },
    mounts: [
      ...kernelMounts,
      ...machine.shares.map(
        (share): OciMount => ({
          destination: share.guest,
          type: 'bind',
          source: share.host,
          options: [
            'rbind',
            'nosuid',
            'nodev',
            ...(share.readonly ? ['ro'] : []),
            ...(statSync(share.host).isDirectory() ? [] : ['file']),
          ],
        }),
      ),
    ],
    linux: {
      namespaces: (['user', 'mount', 'pid', 'network', 'uts', 'ipc', 'cgroup', 'time'] as const).map((type) => ({
        type,
      })),
      uidMappings: mapping,
      gidMappings: mapping,
      cgroupsPath: `tsv/${context.projectId}/${machine.name}`,
      resources: {
        memory: { limit: machine.memoryBytes },
        cpu: { quota: Math.max(1000, Math.round(machine.cpus * cpuPeriodUs)), period: cpuPeriodUs },
        pids: { limit: machine.pids },
      },
      maskedPaths,
      readonlyPaths,
    },
  };
}

const kernelMounts: readonly OciMount[] = [
  { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'nodev', 'noexec'] },
  { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'nodev', 'noexec', 'ro'] },
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
    options: ['nosuid', 'nodev', 'noexec', 'mode=1777', 'size=65536k'],
  },
  { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'nodev', 'noexec'] },
];
