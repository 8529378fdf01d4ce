import { describe, expect, test } from 'vitest';
import {
  type ConfigHost,
  capabilitiesOf,
  commandProcess,
  containerConfig,
  usualCapabilities,
} from '../../../providers/namespace/config.ts';
import { type IoLimits, type Isolation, isolationOf, type Machine } from '../../../src/model/project.ts';
import type { MachineContext } from '../../../src/model/provider.ts';
import type { OciConfig, OciSeccomp } from '../../../src/oci/spec.ts';
import { validateConfig } from '../../../src/oci/validate.ts';

const machine: Machine = {
  name: 'web-1',
  group: 'web',
  kind: 'container',
  box: 'debian-12',
  hostname: 'web-1',
  memoryBytes: 1 << 28,
  cpus: 0.5,
  pids: 100,
  command: ['nginx'],
  env: { COLOUR: 'blue' },
  networks: [],
  forwards: [],
  shares: [],
  disks: [],
  dependsOn: [],
  provision: [],
  bootTimeoutMs: 1,
  stopTimeoutMs: 1,
  accel: 'auto',
};
const root = { uid: 0, gid: 0, groups: [], home: '/root' };

function config(
  isolation: Partial<Isolation> = {},
  change: Partial<Machine> = {},
  host: Partial<ConfigHost> = {},
): OciConfig {
  const changed = { ...machine, ...change };
  const context = { machine: { ...changed, isolation: { ...isolationOf(changed), ...isolation } }, projectId: 'id' };
  return containerConfig(context as unknown as MachineContext, {
    ids: [{ inside: 0, outside: 0x6fff0000, count: 65536 }],
    lastCapability: 40,
    user: root,
    seccomp: undefined,
    devices: [],
    limitedDisks: [],
    ...host,
  });
}
const mount = (of: OciConfig, destination: string) => of.mounts?.find((entry) => entry.destination === destination);

describe('the configuration of a container', () => {
  test.each([
    ['usual', {}],
    ['privileged', { privileged: true, seccomp: 'unconfined' }],
    ['read-only', { readOnly: true, tmpfs: [{ path: '/run' }], sysctls: { 'net.core.somaxconn': '64' } }],
    ['limited', { ulimits: [{ name: 'RLIMIT_NOFILE', soft: 10, hard: 'unlimited' }] }],
  ] as const)('of a %s machine is a valid one, without a warning', (_, isolation) => {
    const made = config(isolation);
    const { value, warnings } = validateConfig(JSON.parse(JSON.stringify(made)), 'config.json');
    expect(warnings).toEqual([]);
    expect(value).toEqual(made);
  });

  test('binds its disks, each to have its file system alone', () => {
    const disks = [{ path: '/data', file: '/p/.ts-vm/machines/web-1/disks/data.img' }];
    expect(mount(config({}, {}, { disks }), '/data')).toEqual({
      destination: '/data',
      type: 'bind',
      source: '/p/.ts-vm/machines/web-1/disks/data.img',
      options: ['bind', 'idmap', 'nosuid', 'nodev'],
    });
  });

  test('says what the machine says', () => {
    const made = config(
      { workdir: '/srv', readOnly: true },
      {},
      { user: { uid: 7, gid: 8, groups: [9], home: '/home/x' } },
    );
    expect(made).toMatchObject({
      hostname: 'web-1',
      root: { readonly: true },
      process: {
        args: ['nginx'],
        cwd: '/srv',
        user: { uid: 7, gid: 8, additionalGids: [9], umask: 0o22 },
        terminal: false,
      },
      linux: {
        cgroupsPath: 'tsv/id/web-1',
        resources: {
          memory: { limit: 1 << 28 },
          cpu: { shares: 1024, quota: 50_000, period: 100_000 },
          pids: { limit: 100 },
        },
      },
    });
    expect(made.process?.env).toEqual(expect.arrayContaining(['HOME=/home/x', 'COLOUR=blue', 'container=tsv']));
    expect(
      config({}, { env: { HOME: '/x', PATH: '/y' } }).process?.env?.filter((entry) => /^(HOME|PATH)=/.test(entry)),
    ).toEqual(['PATH=/y', 'HOME=/x']);
  });

  test('limits what is read and written of each disk; what is not named is lifted', () => {
    const disk = { major: 254, minor: 0 };
    const rates = (io: IoLimits) => config({}, { io }, { limitedDisks: [disk] }).linux?.resources?.blockIO;
    const all = { readBytesPerSecond: 1, writeBytesPerSecond: 2, readsPerSecond: 3, writesPerSecond: 4 };
    expect(rates(all)).toEqual({
      throttleReadBpsDevice: [{ ...disk, rate: 1 }],
      throttleWriteBpsDevice: [{ ...disk, rate: 2 }],
      throttleReadIOPSDevice: [{ ...disk, rate: 3 }],
      throttleWriteIOPSDevice: [{ ...disk, rate: 4 }],
    });
    expect(rates({ readsPerSecond: 3 })).toMatchObject({
      throttleWriteBpsDevice: [{ ...disk, rate: 0 }],
      throttleReadIOPSDevice: [{ ...disk, rate: 3 }],
    });
    expect(config().linux?.resources).not.toHaveProperty('blockIO');
  });

  test('never asks for less CPU time than the kernel takes', () => {
    expect(config({}, { cpus: 0.001 }).linux?.resources?.cpu?.quota).toBe(1000);
  });

  test.each([false, true])(
    'S20 has namespaces of its own of all kinds, none joined, and is never root outside (privileged: %s)',
    (privileged) => {
      const { linux } = config({ privileged });
      expect(linux?.namespaces?.map(({ type }) => type).sort()).toEqual([
        'cgroup',
        'ipc',
        'mount',
        'network',
        'pid',
        'time',
        'user',
        'uts',
      ]);
      expect(linux?.namespaces?.some(({ path }) => path !== undefined)).toBe(false);
      expect(linux?.uidMappings).toEqual([{ containerID: 0, hostID: 0x6fff0000, size: 65536 }]);
      expect(linux?.gidMappings).toEqual(linux?.uidMappings);
      expect(linux?.rootfsPropagation).toBe('private');
    },
  );

  test('S17 hides what is not namespaced, and protects the rest; a privileged machine sees it', () => {
    const { linux } = config();
    expect(linux?.maskedPaths).toEqual(
      expect.arrayContaining(['/proc/kcore', '/proc/keys', '/proc/timer_list', '/sys/firmware']),
    );
    expect(linux?.readonlyPaths).toEqual(
      expect.arrayContaining(['/proc/sys', '/proc/sysrq-trigger', '/proc/irq', '/proc/bus']),
    );
    expect(config({ privileged: true }).linux).toMatchObject({ maskedPaths: [], readonlyPaths: [] });
  });

  test('S19 /sys and the cgroups are read-only, unless it is privileged; /proc and both have neither devices nor setuid', () => {
    for (const destination of ['/sys', '/sys/fs/cgroup']) {
      expect(mount(config(), destination)?.options).toContain('ro');
      expect(mount(config({ privileged: true }), destination)?.options).not.toContain('ro');
    }
    for (const destination of ['/sys', '/sys/fs/cgroup', '/proc', '/dev/shm', '/dev/mqueue'])
      expect(mount(config({ privileged: true }), destination)?.options).toEqual(
        expect.arrayContaining(['nosuid', 'nodev', 'noexec']),
      );
    expect(mount(config(), '/dev')).toMatchObject({
      type: 'tmpfs',
      options: expect.arrayContaining(['nosuid', 'mode=755']),
    });
    expect(mount(config({ shmBytes: 4096 }), '/dev/shm')?.options).toContain('size=4096');
  });

  test('S12 cannot gain privileges, unless it is privileged', () => {
    expect(config().process?.noNewPrivileges).toBe(true);
    expect(config({ privileged: true }).process?.noNewPrivileges).toBe(false);
  });

  test('S15 has the default filter, its own, or none', () => {
    const own: OciSeccomp = { defaultAction: 'SCMP_ACT_LOG' };
    expect(config().linux?.seccomp?.defaultAction).toBe('SCMP_ACT_ERRNO');
    expect(config({ seccomp: { path: '/p', digest: 'd' } }, {}, { seccomp: own }).linux?.seccomp).toBe(own);
    expect(config({ seccomp: 'unconfined' }).linux).not.toHaveProperty('seccomp');
  });

  test('limits that are none arrive as the largest number that JSON has for them', () => {
    const { process } = config({ ulimits: [{ name: 'RLIMIT_NOFILE', soft: 10, hard: 'unlimited' }] });
    expect(process?.rlimits).toEqual([{ type: 'RLIMIT_NOFILE', soft: 10, hard: 2 ** 64 }]);
  });
});

describe('capabilities', () => {
  const of = (capabilities: Isolation['capabilities'], last = 40) =>
    capabilitiesOf({ ...isolationOf(machine), capabilities }, last);

  test('S14 are the usual ones: none that reaches the network below sockets, or the host', () => {
    expect(of({ add: [], drop: [] }).toSorted()).toEqual([...usualCapabilities].toSorted());
    for (const name of [
      'NET_RAW',
      'NET_ADMIN',
      'SYS_ADMIN',
      'SYS_MODULE',
      'SYS_PTRACE',
      'DAC_READ_SEARCH',
      'SYS_RAWIO',
      'BPF',
    ])
      expect(usualCapabilities).not.toContain(`CAP_${name}`);
  });

  test('are the usual ones with those added, and without those dropped, in the order of the kernel', () => {
    expect(of({ add: ['CAP_SYS_ADMIN'], drop: usualCapabilities.filter((name) => name !== 'CAP_CHOWN') })).toEqual([
      'CAP_CHOWN',
      'CAP_SYS_ADMIN',
    ]);
  });

  test('are never more than the kernel knows', () => {
    expect(of({ add: ['CAP_CHECKPOINT_RESTORE'], drop: [] }, 39)).not.toContain('CAP_CHECKPOINT_RESTORE');
  });

  test('S13 are had by root at once, by another user not at all; none is inherited', () => {
    const asRoot = config().process?.capabilities;
    expect(asRoot?.effective).toEqual(asRoot?.bounding);
    expect(asRoot?.permitted).toEqual(asRoot?.bounding);
    const other = config({}, {}, { user: { ...root, uid: 1000 } }).process?.capabilities;
    expect(other).toEqual({ bounding: asRoot?.bounding, effective: [], permitted: [], inheritable: [], ambient: [] });
    expect([asRoot?.inheritable, asRoot?.ambient]).toEqual([[], []]);
  });
});

describe('mounts of a machine', () => {
  test('a share has neither setuid programs nor devices, with all below it; a read-only one cannot be written anywhere', () => {
    const shares = [
      { host: '/h', guest: '/srv/a', readonly: true },
      { host: '/i', guest: '/b', readonly: false },
    ];
    const made = config({}, { shares });
    expect(mount(made, '/srv/a')).toEqual({
      destination: '/srv/a',
      type: 'bind',
      source: '/h',
      options: ['rbind', 'rnosuid', 'rnodev', 'rro'],
    });
    expect(mount(made, '/b')?.options).toEqual(['rbind', 'rnosuid', 'rnodev']);
  });

  test('a share has the id map that the host can give it, with all below it', () => {
    const mappings = {
      uids: [{ containerID: 1000, hostID: 0x6fff0000, size: 1 }],
      gids: [{ containerID: 33, hostID: 0x6fff0000, size: 1 }],
    };
    const made = config(
      {},
      { shares: [{ host: '/h', guest: '/srv', readonly: false }] },
      { shares: [{ host: '/real/h', guest: '/srv', readonly: true, mappings }] },
    );
    expect(mount(made, '/srv')).toEqual({
      destination: '/srv',
      type: 'bind',
      source: '/real/h',
      options: ['rbind', 'rnosuid', 'rnodev', 'rro', 'ridmap'],
      uidMappings: mappings.uids,
      gidMappings: mappings.gids,
    });
    expect(validateConfig(JSON.parse(JSON.stringify(made)), 'config.json').warnings).toEqual([]);
  });

  test('a volume has no id map: its files have the ids of the container', () => {
    const volumes = [
      { path: '/data', folder: '/v/data', readonly: false },
      { path: '/data/in', folder: '/v/in', readonly: true },
    ];
    const made = config({}, {}, { volumes });
    expect(made.mounts?.slice(-2)).toEqual([
      { destination: '/data', type: 'bind', source: '/v/data', options: ['bind', 'nosuid', 'nodev'] },
      { destination: '/data/in', type: 'bind', source: '/v/in', options: ['bind', 'nosuid', 'nodev', 'ro'] },
    ]);
  });

  test("come after those that they lie in, and after the kernel's", () => {
    const made = config(
      { tmpfs: [{ path: '/a/b/c' }, { path: '/a' }] },
      { shares: [{ host: '/h', guest: '/a/b', readonly: false }] },
    );
    expect(made.mounts?.map(({ destination }) => destination).slice(-3)).toEqual(['/a', '/a/b', '/a/b/c']);
    expect(made.mounts?.[0]?.destination).toBe('/proc');
  });

  test('a tmpfs is open to all unless it is said, and has a size if it is given one', () => {
    const made = config({ tmpfs: [{ path: '/t' }, { path: '/u', mode: 0o700, sizeBytes: 4096 }] });
    expect(mount(made, '/t')?.options).toEqual(['nosuid', 'nodev', 'mode=1777']);
    expect(mount(made, '/u')?.options).toEqual(['nosuid', 'nodev', 'size=4096', 'mode=700']);
  });

  test('a device is its node of the host, and cannot be written unless that is allowed', () => {
    const devices = [
      { host: '/dev/fuse', container: '/dev/f', access: 'rw' },
      { host: '/dev/kvm', container: '/dev/k', access: 'r' },
    ];
    const made = config(
      { devices },
      {},
      { devices: [{ allow: true, type: 'c', major: 10, minor: 229, access: 'rw' }] },
    );
    expect(mount(made, '/dev/f')).toMatchObject({
      type: 'bind',
      source: '/dev/fuse',
      options: ['bind', 'nosuid', 'noexec'],
    });
    expect(mount(made, '/dev/k')?.options).toContain('ro');
    expect(made.linux?.resources?.devices).toEqual([{ allow: true, type: 'c', major: 10, minor: 229, access: 'rw' }]);
  });
});

describe('a command beside the first process', () => {
  const command = (uid: number, of = config({ ulimits: [{ name: 'RLIMIT_CORE', soft: 0, hard: 0 }] })) =>
    commandProcess(of, { args: ['id'], env: [], cwd: '/', terminal: false, user: { uid, gid: 5, groups: [27] } });

  test('has the same fences: bounding set, no new privileges, limits', () => {
    const first = config().process;
    expect(command(0)).toMatchObject({
      args: ['id'],
      user: { uid: 0, gid: 5, additionalGids: [27], umask: 0o22 },
      noNewPrivileges: true,
      rlimits: [{ type: 'RLIMIT_CORE', soft: 0, hard: 0 }],
      capabilities: { bounding: first?.capabilities?.bounding },
    });
    expect(command(0, config({ privileged: true })).noNewPrivileges).toBe(false);
  });

  test('leaves capabilities to root only', () => {
    expect(command(0).capabilities?.effective?.length).toBeGreaterThan(0);
    const { effective, permitted, inheritable, ambient } = command(1000).capabilities ?? {};
    expect([effective, permitted, inheritable, ambient]).toEqual([[], [], [], []]);
  });

  test('of a configuration without a process has none, and cannot gain any', () => {
    expect(command(0, { ociVersion: '1.2.0' })).toMatchObject({
      noNewPrivileges: true,
      capabilities: { bounding: [], permitted: [] },
    });
  });
});
