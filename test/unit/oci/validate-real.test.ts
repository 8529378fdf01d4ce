import { describe, expect, test } from 'vitest';
import { TsvError } from '../../../src/model/errors.ts';
import { defaultSpec } from '../../../src/oci/default-spec.ts';
import { validateConfig } from '../../../src/oci/validate.ts';

type Json = Record<string, unknown>;

const dockerCapabilities = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FSETID',
  'CAP_FOWNER',
  'CAP_MKNOD',
  'CAP_NET_RAW',
  'CAP_SETGID',
  'CAP_SETUID',
  'CAP_SETFCAP',
  'CAP_SETPCAP',
  'CAP_NET_BIND_SERVICE',
  'CAP_SYS_CHROOT',
  'CAP_KILL',
  'CAP_AUDIT_WRITE',
];

const seccomp = {
  defaultAction: 'SCMP_ACT_ERRNO',
  defaultErrnoRet: 1,
  architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
  syscalls: [
    { names: ['accept', 'accept4', 'access'], action: 'SCMP_ACT_ALLOW', args: null },
    {
      names: ['socket'],
      action: 'SCMP_ACT_ALLOW',
      args: [{ index: 0, value: 40, op: 'SCMP_CMP_NE' }],
    },
    {
      names: ['personality'],
      action: 'SCMP_ACT_ALLOW',
      args: [{ index: 0, value: 4294967295, valueTwo: 0, op: 'SCMP_CMP_EQ' }],
    },
    {
      names: ['clone'],
      action: 'SCMP_ACT_ALLOW',
      args: [{ index: 0, value: 2114060288, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }],
    },
    { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: 38 },
  ],
};

const deny = { allow: false, access: 'rwm' };
const device = (major: number, minor: number) => ({ allow: true, type: 'c', major, minor, access: 'rwm' });

/** `docker run -it --init --gpus …` and most other options, as dockerd 20.10 writes it. */
const docker: Json = {
  ociVersion: '1.0.2-dev',
  process: {
    terminal: true,
    consoleSize: { height: 40, width: 120 },
    user: { uid: 1000, gid: 1000, additionalGids: [1000, 27] },
    args: ['/sbin/docker-init', '--', 'sh', '-c', 'echo hi'],
    env: [
      'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      'HOSTNAME=7c2b5a8dd4ce',
      'TERM=xterm',
      'E=',
    ],
    cwd: '/',
    capabilities: {
      bounding: dockerCapabilities,
      effective: dockerCapabilities,
      permitted: dockerCapabilities,
      inheritable: null,
      ambient: null,
    },
    rlimits: [{ type: 'RLIMIT_NOFILE', hard: 1048576, soft: 1048576 }],
    noNewPrivileges: true,
    apparmorProfile: 'docker-default',
    oomScoreAdj: 0,
  },
  root: { path: '/var/lib/docker/overlay2/0f2d/merged', readonly: true },
  hostname: '7c2b5a8dd4ce',
  domainname: 'example.org',
  mounts: [
    { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
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
    { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
    {
      destination: '/sys/fs/cgroup',
      type: 'cgroup',
      source: 'cgroup',
      options: ['ro', 'nosuid', 'noexec', 'nodev'],
    },
    { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
    {
      destination: '/dev/shm',
      type: 'tmpfs',
      source: 'shm',
      options: ['nosuid', 'noexec', 'nodev', 'mode=1777', 'size=67108864'],
    },
    {
      destination: '/etc/resolv.conf',
      type: 'bind',
      source: '/var/lib/docker/containers/7c2b/resolv.conf',
      options: ['rbind', 'rprivate'],
    },
    { destination: '/sbin/docker-init', type: 'bind', source: '/usr/bin/docker-init', options: ['bind', 'ro'] },
  ],
  hooks: {
    prestart: [
      {
        path: '/proc/1/exe',
        args: ['libnetwork-setkey', '-exec-root=/var/run/docker', '7c2b', 'd25e'],
        env: null,
        timeout: 10,
      },
    ],
  },
  annotations: { 'com.example.key': 'value' },
  linux: {
    sysctl: { 'net.ipv4.ip_unprivileged_port_start': '0', 'net.ipv4.ping_group_range': '0 2147483647' },
    resources: {
      devices: [
        deny,
        device(1, 5),
        device(1, 3),
        device(136, -1),
        { allow: false, type: 'c', major: 10, minor: 229, access: 'rwm' },
      ],
      memory: {
        limit: 536870912,
        reservation: 268435456,
        swap: 1073741824,
        kernel: 0,
        kernelTCP: 0,
        swappiness: 60,
        disableOOMKiller: false,
      },
      cpu: { shares: 512, quota: 50000, period: 100000, realtimeRuntime: 0, realtimePeriod: 0, cpus: '0-1', mems: '0' },
      pids: { limit: 100 },
      blockIO: {
        weight: 300,
        leafWeight: 0,
        weightDevice: [{ major: 8, minor: 0, weight: 500 }],
        throttleReadBpsDevice: [{ major: 8, minor: 0, rate: 1048576 }],
        throttleWriteBpsDevice: null,
        throttleReadIOPSDevice: [],
        throttleWriteIOPSDevice: [{ major: 8, minor: 0, rate: 100 }],
      },
      hugepageLimits: [{ pageSize: '2MB', limit: 2 ** 63 }],
      network: { classID: 1048577, priorities: [{ name: 'eth0', priority: 500 }] },
    },
    cgroupsPath: '/docker/7c2b5a8dd4ce',
    namespaces: [
      { type: 'mount' },
      { type: 'network', path: '/var/run/docker/netns/4026' },
      { type: 'uts' },
      { type: 'pid' },
      { type: 'ipc', path: '/proc/4242/ns/ipc' },
      { type: 'cgroup' },
      { type: 'user' },
    ],
    uidMappings: [{ containerID: 0, hostID: 165536, size: 65536 }],
    gidMappings: [{ containerID: 0, hostID: 165536, size: 65536 }],
    devices: [
      { path: '/dev/fuse', type: 'c', major: 10, minor: 229, fileMode: 8630, uid: 0, gid: 0 },
      { path: '/dev/sda', type: 'b', major: 8, minor: 0, fileMode: 25008, uid: 0, gid: 6 },
    ],
    rootfsPropagation: 'rslave',
    seccomp,
    mountLabel: '',
    maskedPaths: ['/proc/asound', '/proc/acpi', '/proc/kcore', '/proc/keys', '/sys/firmware'],
    readonlyPaths: ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'],
  },
};

/** A rootless `podman run --userns=keep-id` of Podman 4 with crun, and what of 1.1 and 1.2 the other has not. */
const podman: Json = {
  ociVersion: '1.1.0+dev',
  process: {
    user: { uid: 0, gid: 0, umask: 18, additionalGids: [10] },
    args: ['nginx', '-g', 'daemon off;'],
    env: ['PATH=/usr/bin', 'container=podman', 'HOME=/root', 'HOSTNAME=a1b2'],
    cwd: '/',
    capabilities: {
      bounding: ['CAP_CHOWN', 'CAP_KILL'],
      effective: ['CAP_CHOWN'],
      permitted: ['CAP_CHOWN', 'CAP_KILL'],
    },
    rlimits: [
      { type: 'RLIMIT_NOFILE', hard: 524288, soft: 1024 },
      { type: 'RLIMIT_NPROC', hard: 2 ** 64, soft: 4194304 },
    ],
    oomScoreAdj: -500,
    selinuxLabel: '',
    scheduler: {
      policy: 'SCHED_DEADLINE',
      nice: 0,
      priority: 0,
      flags: ['SCHED_FLAG_RESET_ON_FORK'],
      runtime: 1,
      deadline: 2,
      period: 3,
    },
    ioPriority: { class: 'IOPRIO_CLASS_IDLE', priority: 7 },
    execCPUAffinity: { initial: '0', final: '0-1' },
  },
  root: { path: '/home/dev/.local/share/containers/storage/overlay/9c/merged' },
  hostname: 'a1b2',
  mounts: [
    { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
    { destination: '/sys', type: 'bind', source: '/sys', options: ['rbind', 'nosuid', 'noexec', 'nodev', 'ro'] },
    { destination: '/run/.containerenv', type: 'bind', source: '/run/user/1000/x', options: ['bind', 'rprivate'] },
    {
      destination: '/data',
      type: 'bind',
      source: '/home/dev/data',
      options: ['rbind', 'ridmap', 'rro'],
      uidMappings: [{ containerID: 0, hostID: 0, size: 65536 }],
      gidMappings: [{ containerID: 0, hostID: 0, size: 65536 }],
    },
  ],
  hooks: {
    createRuntime: [{ path: '/usr/libexec/hook', args: ['hook'], env: ['A=1'] }],
    createContainer: [],
    startContainer: [{ path: '/bin/inside' }],
    poststart: null,
    poststop: [{ path: '/usr/bin/podman', args: ['/usr/bin/podman', 'container', 'cleanup'], timeout: 30 }],
  },
  annotations: {
    'io.container.manager': 'libpod',
    'io.podman.annotations.autoremove': 'FALSE',
    'run.oci.keep_original_groups': '1',
  },
  linux: {
    uidMappings: [
      { containerID: 0, hostID: 1, size: 1000 },
      { containerID: 1000, hostID: 0, size: 1 },
      { containerID: 1001, hostID: 1001, size: 64536 },
    ],
    gidMappings: [{ containerID: 0, hostID: 0, size: 65536 }],
    sysctl: { 'net.ipv4.ping_group_range': '0 0', 'net/core/somaxconn': '512', 'kernel.shmmax': '65536' },
    resources: {
      devices: [deny, { allow: true, type: 'b', access: 'r' }],
      memory: { limit: -1, swap: -1, checkBeforeUpdate: true, useHierarchy: true },
      cpu: { quota: -1, burst: 1000, idle: 1 },
      pids: { limit: 2048 },
      rdma: { mlx5_1: { hcaHandles: 3, hcaObjects: 10000 } },
      unified: { 'memory.high': '1073741824', 'io.max': '8:0 rbps=1048576', 'hugetlb.1GB.max': '0' },
    },
    cgroupsPath: 'user.slice:libpod:a1b2',
    namespaces: ['pid', 'network', 'ipc', 'uts', 'mount', 'cgroup', 'user', 'time'].map((type) => ({ type })),
    timeOffsets: { monotonic: { secs: -100, nanosecs: 5 }, boottime: { secs: 100 } },
    rootfsPropagation: 'slave',
    seccomp: { ...seccomp, flags: ['SECCOMP_FILTER_FLAG_LOG', 'SECCOMP_FILTER_FLAG_SPEC_ALLOW'], listenerMetadata: '' },
    personality: { domain: 'LINUX32', flags: [] },
    intelRdt: { closID: 'guaranteed', l3CacheSchema: 'L3:0=7f0', enableCMT: true },
    mountLabel: null,
    maskedPaths: null,
    readonlyPaths: [],
  },
};

const bundles: Readonly<Record<string, unknown>> = {
  docker,
  podman,
  'runc spec': defaultSpec({ rootless: false, cgroup2: true }),
  'runc spec --rootless': defaultSpec({ rootless: true, uid: 1000, gid: 1000 }),
};

const copy = (value: unknown): Json => JSON.parse(JSON.stringify(value)) as Json;

describe('a configuration as others write it is valid:', () => {
  test.each(Object.keys(bundles))('%s', (name) => {
    const { value, warnings } = validateConfig(copy(bundles[name]), 'config.json');
    expect(warnings).toEqual(name === 'podman' ? ['linux.intelRdt: passed over: it is not supported'] : []);
    expect(JSON.stringify(value)).not.toContain('null');
  });

  test('and stays as it is, save what stands for absent', () => {
    const withoutNull = (_: string, value: unknown) => (value === null ? undefined : value);
    const { mountLabel: _, ...linux } = docker.linux as Json;
    expect(validateConfig(copy(docker), 'config.json').value).toEqual(
      JSON.parse(JSON.stringify({ ...docker, linux: { ...linux, rootfsPropagation: 'slave' } }, withoutNull)),
    );
  });
});

/** The path of every value in a document. */
function* paths(value: unknown, path: readonly string[] = []): Generator<readonly string[]> {
  if (typeof value !== 'object' || value === null) return;
  for (const [key, inner] of Object.entries(value)) {
    yield [...path, key];
    yield* paths(inner, [...path, key]);
  }
}

/** Puts a value in the place of another one, or takes that out for undefined. */
function put(document: Json, path: readonly string[], value: unknown): void {
  const holder = path.slice(0, -1).reduce((at, key) => at[key] as Json, document);
  const key = path.at(-1) ?? '';
  if (value !== undefined) holder[key] = structuredClone(value);
  else if (Array.isArray(holder)) holder.splice(Number(key), 1);
  else delete holder[key];
}

/** Lines if it was refused, undefined if not; anything else is thrown on. */
function refusal(document: unknown): readonly string[] | undefined {
  try {
    validateConfig(document, 'config.json');
    return undefined;
  } catch (error) {
    if (error instanceof TsvError && error.code === 'TSV_BUNDLE') return error.details;
    throw error;
  }
}

const strange: readonly unknown[] = [
  null,
  true,
  0,
  -1,
  1.5,
  1e300,
  '',
  '/',
  'a\0',
  '\n',
  [],
  {},
  [null],
  [[]],
  [{}],
  { a: null },
  { '': {} },
];

describe('whatever is put in the place of one value, it is accepted or refused with its path:', () => {
  test.each(Object.keys(bundles))('%s', (name) => {
    const all = [...paths(copy(bundles[name]))];
    let refused = 0;
    const pathless: unknown[] = [];
    for (const path of all) {
      for (const value of [undefined, ...strange]) {
        const document = copy(bundles[name]);
        put(document, path, value);
        const lines = refusal(document);
        if (lines === undefined) continue;
        refused++;
        if (lines.length === 0 || lines.some((line) => !/^[A-Za-z][^\n]*?: [^\n]+$/.test(line)))
          pathless.push({ path, value, lines });
      }
    }
    expect(pathless).toEqual([]);
    expect(refused).toBeGreaterThan(all.length * 3);
  });
});

test('several wrong values at once are refused too', () => {
  // A linear congruential generator: the same every time.
  let state = 1;
  const below = (limit: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state % limit;
  };
  let refused = 0;
  for (let round = 0; round < 500; round++) {
    const document = copy(round % 2 === 0 ? docker : podman);
    for (let change = 0; change < 5; change++) {
      const all = [...paths(document)];
      put(document, all[below(all.length)] ?? [], strange[below(strange.length)]);
    }
    if (refusal(document) !== undefined) refused++;
  }
  expect(refused).toBeGreaterThan(400);
});
