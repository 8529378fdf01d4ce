import { expect, test } from 'vitest';
import { defaultSpec } from '../../../src/oci/default-spec.ts';
import { validateConfig } from '../../../src/oci/validate.ts';

/** What `runc spec` of runc 1.1.5 prints, on a host with cgroup v1. */
const runcSpec = {
  process: {
    terminal: true,
    user: { uid: 0, gid: 0 },
    args: ['sh'],
    env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'TERM=xterm'],
    cwd: '/',
    capabilities: Object.fromEntries(
      ['bounding', 'effective', 'permitted', 'ambient'].map((set) => [
        set,
        ['CAP_AUDIT_WRITE', 'CAP_KILL', 'CAP_NET_BIND_SERVICE'],
      ]),
    ),
    rlimits: [{ type: 'RLIMIT_NOFILE', hard: 1024, soft: 1024 }],
    noNewPrivileges: true,
  },
  root: { path: 'rootfs', readonly: true },
  mounts: [
    { destination: '/proc', type: 'proc', source: 'proc' },
    {
      destination: '/dev',
      type: 'tmpfs',
      source: 'tmpfs',
      options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
    },
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
      options: ['nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k'],
    },
    { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
    { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
    {
      destination: '/sys/fs/cgroup',
      type: 'cgroup',
      source: 'cgroup',
      options: ['nosuid', 'noexec', 'nodev', 'relatime', 'ro'],
    },
  ],
  linux: {
    resources: { devices: [{ allow: false, access: 'rwm' }] },
    namespaces: ['pid', 'network', 'ipc', 'uts', 'mount'].map((type) => ({ type })),
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

test('the default is that of runc, save version and name', () => {
  expect(defaultSpec({ rootless: false })).toEqual({ ...runcSpec, ociVersion: '1.2.0', hostname: 'tsv' });
});

test('without root it has a user namespace, the network and /sys of the host, and no limits', () => {
  const rootless = defaultSpec({ rootless: true, uid: 1000, gid: 1001 });
  const { resources: _, ...linux } = runcSpec.linux;
  expect(rootless).toEqual({
    ...runcSpec,
    ociVersion: '1.2.0',
    hostname: 'tsv',
    mounts: runcSpec.mounts.map((mount) => {
      if (mount.destination === '/dev/pts')
        return { ...mount, options: mount.options?.filter((option) => option !== 'gid=5') };
      if (mount.destination === '/sys')
        return {
          destination: '/sys',
          type: 'none',
          source: '/sys',
          options: ['rbind', 'nosuid', 'noexec', 'nodev', 'ro'],
        };
      return mount;
    }),
    linux: {
      ...linux,
      uidMappings: [{ containerID: 0, hostID: 1000, size: 1 }],
      gidMappings: [{ containerID: 0, hostID: 1001, size: 1 }],
      namespaces: ['pid', 'ipc', 'uts', 'mount', 'user'].map((type) => ({ type })),
    },
  });
});

test('without root, the ids are those of whoever asks', () => {
  const { linux } = defaultSpec({ rootless: true });
  expect(linux?.uidMappings).toEqual([{ containerID: 0, hostID: process.geteuid?.(), size: 1 }]);
  expect(linux?.gidMappings).toEqual([{ containerID: 0, hostID: process.getegid?.(), size: 1 }]);
});

test('on cgroup v2 there is a cgroup namespace', () => {
  const types = (rootless: boolean) =>
    defaultSpec({ rootless, cgroup2: true }).linux?.namespaces?.map(({ type }) => type);
  expect(types(false)).toEqual(['pid', 'network', 'ipc', 'uts', 'mount', 'cgroup']);
  expect(types(true)).toEqual(['pid', 'ipc', 'uts', 'mount', 'cgroup', 'user']);
});

test.each([true, false])('what is written is valid, without a warning (rootless: %s)', (rootless) => {
  const spec = defaultSpec({ rootless });
  const { value, warnings } = validateConfig(JSON.parse(JSON.stringify(spec)), 'config.json');
  expect(value).toEqual(spec);
  expect(warnings).toEqual([]);
});
