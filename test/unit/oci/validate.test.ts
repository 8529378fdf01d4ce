import { describe, expect, test } from 'vitest';
import { TsvError } from '../../../src/model/errors.ts';
import { checkContainerId, validateConfig, validateProcess } from '../../../src/oci/validate.ts';

type Json = Record<string, unknown>;

const namespaces = ['pid', 'network', 'ipc', 'uts', 'mount'].map((type) => ({ type }));

/** A small valid config.json; `linux` and `process` are merged in, all else replaces. */
function config({ linux, process, ...rest }: { linux?: Json; process?: Json } & Json = {}): Json {
  return {
    ociVersion: '1.2.0',
    root: { path: 'rootfs' },
    process: { args: ['true'], cwd: '/', user: { uid: 0, gid: 0 }, ...process },
    linux: { namespaces, ...linux },
    ...rest,
  };
}

const copy = <T>(value: T): T => JSON.parse(JSON.stringify(value)) as T;

function problems(document: unknown, validate: (document: unknown, where: string) => unknown = validateConfig) {
  try {
    validate(copy(document), 'config.json of bundle /x');
  } catch (error) {
    if (!(error instanceof TsvError) || error.code !== 'TSV_BUNDLE') throw error;
    expect(error.message).toBe('config.json of bundle /x is not valid');
    return error.details;
  }
  return [];
}

const withUser = (linux: Json): Json => ({
  namespaces: [...namespaces, { type: 'user' }],
  uidMappings: [{ containerID: 0, hostID: 1000, size: 1 }],
  gidMappings: [{ containerID: 0, hostID: 1000, size: 1 }],
  ...linux,
});

describe('a mistake is named with its path:', () => {
  const rlimit = { type: 'RLIMIT_NOFILE', soft: 1, hard: 1 };
  const seccomp = (rule: Json, more: Json = {}): Json => ({
    linux: {
      seccomp: {
        defaultAction: 'SCMP_ACT_ERRNO',
        ...more,
        syscalls: [{ names: ['a'], action: 'SCMP_ACT_ALLOW', ...rule }],
      },
    },
  });

  test.each<[Parameters<typeof config>[0], ...string[]]>([
    [{ ociVersion: undefined }, 'ociVersion: is missing'],
    [{ ociVersion: 1 }, 'ociVersion: must be a text, not 1'],
    [{ ociVersion: '1.2' }, 'ociVersion: must be a version such as 1.2.0, not "1.2"'],
    [{ ociVersion: '1.02.0' }, 'ociVersion: must be a version such as 1.2.0, not "1.02.0"'],
    [{ ociVersion: '0.5.0-dev' }, 'ociVersion: of an older specification: "0.5.0-dev"; this runtime knows 1.0 to 1.2'],
    [{ ociVersion: '1.3.0' }, 'ociVersion: of a newer specification: "1.3.0"; this runtime knows up to 1.2'],
    [{ ociVersion: '2.0.0' }, 'ociVersion: of a newer specification: "2.0.0"; this runtime knows up to 1.2'],
    [{ root: undefined }, 'root: is missing'],
    [{ root: {} }, 'root.path: is missing'],
    [{ root: { path: '' } }, 'root.path: must not be empty'],
    [{ root: { path: 'a\0b' } }, 'root.path: must not contain a NUL character'],
    [{ root: { path: 'r', readonly: 'yes' } }, 'root.readonly: must be true or false, not "yes"'],
    [{ mounts: {} }, 'mounts: must be a list, not an object'],
    [{ mounts: [{ destination: '/a' }, { type: 'proc' }] }, 'mounts[1].destination: is missing'],
    [{ mounts: [{ destination: '' }] }, 'mounts[0].destination: must not be empty'],
    [{ mounts: [{ destination: '/a', options: ['ro', 5] }] }, 'mounts[0].options[1]: must be a text, not 5'],
    [
      { mounts: [{ destination: '/a', uidMappings: [{ containerID: 0, hostID: 0, size: 1 }] }] },
      'mounts[0].gidMappings: is missing beside the other one',
    ],
    [{ process: { args: [] } }, 'process.args: must not be empty'],
    [{ process: { args: undefined } }, 'process.args: is missing'],
    [{ process: { args: ['a', 7] } }, 'process.args[1]: must be a text, not 7'],
    [{ process: { args: ['a', null] } }, 'process.args[1]: must be a text, not null'],
    [{ process: { cwd: '' } }, 'process.cwd: must be an absolute path, not ""'],
    [{ process: { cwd: 'home' } }, 'process.cwd: must be an absolute path, not "home"'],
    [{ process: { env: ['A=1', 'SECRET'] } }, "process.env[1]: must have the form NAME=value, and has no '='"],
    [{ process: { env: ['=x'] } }, "process.env[0]: must have a name before the '='"],
    [{ process: { env: ['A=secret\0'] } }, 'process.env[0]: must not contain a NUL character'],
    [{ process: { user: {} } }, 'process.user.uid: is missing', 'process.user.gid: is missing'],
    [{ process: { user: { uid: -1, gid: 0 } } }, 'process.user.uid: must be at least 0, not -1'],
    [
      { process: { user: { uid: 4294967295, gid: 0 } } },
      'process.user.uid: must be at most 4294967294, not 4294967295',
    ],
    [{ process: { user: { uid: 'root', gid: 0 } } }, 'process.user.uid: must be a whole number, not "root"'],
    [
      { process: { user: { uid: 1, gid: 1, additionalGids: [1, 4294967296] } } },
      'process.user.additionalGids[1]: must be at most 4294967294, not 4294967296',
    ],
    [{ process: { rlimits: [rlimit, rlimit] } }, 'process.rlimits[1].type: RLIMIT_NOFILE is there twice'],
    [{ process: { rlimits: [{ ...rlimit, type: 'RLIMIT_X' }] } }, 'process.rlimits[0].type: "RLIMIT_X" is not known'],
    [
      { process: { rlimits: [{ ...rlimit, soft: 2 }] } },
      'process.rlimits[0].soft: must be at most the hard limit 1, not 2',
    ],
    [{ process: { rlimits: [{ ...rlimit, hard: -1 }] } }, 'process.rlimits[0].hard: must be at least 0, not -1'],
    [{ process: { oomScoreAdj: 1001 } }, 'process.oomScoreAdj: must be at most 1000, not 1001'],
    [{ process: { capabilities: ['CAP_KILL'] } }, 'process.capabilities: must be an object, not a list'],
    [{ process: { capabilities: { bounding: 'all' } } }, 'process.capabilities.bounding: must be a list, not "all"'],
    [{ process: { terminal: 1 } }, 'process.terminal: must be true or false, not 1'],
    [{ process: { consoleSize: { height: 1 } } }, 'process.consoleSize.width: is missing'],
    [
      { process: { scheduler: { policy: 'SCHED_X' } } },
      'process.scheduler.policy: must be SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, SCHED_ISO, SCHED_IDLE or SCHED_DEADLINE, not "SCHED_X"',
    ],
    [
      { process: { scheduler: { policy: 'SCHED_OTHER', nice: 20 } } },
      'process.scheduler.nice: must be at most 19, not 20',
    ],
    [
      { process: { scheduler: { policy: 'SCHED_BATCH', priority: 1, deadline: 5 } } },
      'process.scheduler.priority: is for SCHED_FIFO and SCHED_RR only, not for SCHED_BATCH',
      'process.scheduler.deadline: is for SCHED_DEADLINE only, not for SCHED_BATCH',
    ],
    [
      { process: { ioPriority: { class: 'IOPRIO_CLASS_BE', priority: 8 } } },
      'process.ioPriority.priority: must be at most 7, not 8',
    ],
    [{ hooks: { prestart: [{ args: ['x'] }] } }, 'hooks.prestart[0].path: is missing'],
    [{ hooks: { poststop: [{ path: 'x' }] } }, 'hooks.poststop[0].path: must be an absolute path, not "x"'],
    [
      { hooks: { createRuntime: [{ path: '/x', timeout: 0 }] } },
      'hooks.createRuntime[0].timeout: must be at least 1, not 0',
    ],
    [{ annotations: { 'a.b': 1 } }, 'annotations["a.b"]: must be a text, not 1'],
    [{ hostname: 'h'.repeat(65) }, 'hostname: must have at most 64 bytes'],
    [{ hostname: 'h', linux: { namespaces: [] } }, 'hostname: needs a uts namespace in linux.namespaces'],
    [{ domainname: 'd', linux: { namespaces: [] } }, 'domainname: needs a uts namespace in linux.namespaces'],
    [{ linux: { namespaces: [{ type: 'pid' }, { type: 'pid' }] } }, 'linux.namespaces[1].type: pid is there twice'],
    [
      { linux: { namespaces: [{ type: 'net' }] } },
      'linux.namespaces[0].type: must be pid, network, mount, ipc, uts, user, cgroup or time, not "net"',
    ],
    [{ linux: { namespaces: [{ path: '/x' }] } }, 'linux.namespaces[0].type: is missing'],
    [
      { linux: { namespaces: [{ type: 'pid', path: 'x' }] } },
      'linux.namespaces[0].path: must be an absolute path, not "x"',
    ],
    [
      { linux: { namespaces: [{ type: 'user' }] } },
      'linux.uidMappings: is missing: a new user namespace needs it',
      'linux.gidMappings: is missing: a new user namespace needs it',
    ],
    [
      { linux: { gidMappings: [{ containerID: 0, hostID: 0, size: 1 }] } },
      'linux.gidMappings: needs a user namespace in linux.namespaces',
    ],
    [
      { linux: withUser({ uidMappings: [{ containerID: 0, hostID: 0, size: 0 }] }) },
      'linux.uidMappings[0].size: must be at least 1, not 0',
    ],
    [{ linux: withUser({ uidMappings: [{ containerID: 0, hostID: 0 }] }) }, 'linux.uidMappings[0].size: is missing'],
    [
      { linux: withUser({ uidMappings: [{ containerID: 0, hostID: 4294967290, size: 6 }] }) },
      'linux.uidMappings[0].size: goes past the last id, from hostID on',
    ],
    [
      {
        linux: withUser({
          gidMappings: [
            { containerID: 10, hostID: 0, size: 10 },
            { containerID: 0, hostID: 100, size: 11 },
            { containerID: 50, hostID: 110, size: 1 },
          ],
        }),
      },
      'linux.gidMappings[0].containerID: overlaps with the range of [1]',
      'linux.gidMappings[2].hostID: overlaps with the range of [1]',
    ],
    [
      { linux: { timeOffsets: { boottime: { secs: 1 } } } },
      'linux.timeOffsets: needs a time namespace in linux.namespaces',
    ],
    [
      { linux: { namespaces: [{ type: 'time', path: '/proc/9/ns/time' }], timeOffsets: { boottime: { secs: 1 } } } },
      'linux.timeOffsets: cannot be set in a time namespace that is joined by path',
    ],
    [
      { linux: { timeOffsets: { realtime: {} } } },
      'linux.timeOffsets.realtime: must be monotonic or boottime, not "realtime"',
    ],
    [
      { linux: { timeOffsets: { monotonic: { nanosecs: 1e9 } } } },
      'linux.timeOffsets.monotonic.nanosecs: must be at most 999999999, not 1000000000',
    ],
    [
      { linux: { devices: [{ type: 'c', path: '/dev/x' }] } },
      'linux.devices[0].major: is missing for a device of type c',
      'linux.devices[0].minor: is missing for a device of type c',
    ],
    [
      { linux: { devices: [{ type: 'x', path: 'dev/x' }] } },
      'linux.devices[0].type: must be b, c, u or p, not "x"',
      'linux.devices[0].path: must be an absolute path, not "dev/x"',
    ],
    [
      { linux: { devices: [{ type: 'c', path: '/dev/x', major: -1, minor: 0 }] } },
      'linux.devices[0].major: must be at least 0, not -1',
    ],
    [
      { linux: { resources: { devices: [{ access: 'rwx', type: 'u' }] } } },
      'linux.resources.devices[0].allow: is missing',
      'linux.resources.devices[0].type: must be a, b or c, not "u"',
      'linux.resources.devices[0].access: must be made of r, w and m, not "rwx"',
    ],
    [
      { linux: { resources: { devices: [{ allow: true, major: -2 }] } } },
      'linux.resources.devices[0].major: must be at least -1, not -2',
    ],
    [
      { linux: { resources: { memory: { limit: '1G' } } } },
      'linux.resources.memory.limit: must be a whole number, not "1G"',
    ],
    [
      { linux: { resources: { memory: { limit: 1.5 } } } },
      'linux.resources.memory.limit: must be a whole number, not 1.5',
    ],
    [{ linux: { resources: { memory: { swap: -2 } } } }, 'linux.resources.memory.swap: must be at least -1, not -2'],
    [
      { linux: { resources: { memory: { swappiness: 101 } } } },
      'linux.resources.memory.swappiness: must be at most 100, not 101',
    ],
    [{ linux: { resources: { cpu: { shares: -1 } } } }, 'linux.resources.cpu.shares: must be at least 0, not -1'],
    [
      { linux: { resources: { blockIO: { weight: 65536 } } } },
      'linux.resources.blockIO.weight: must be at most 65535, not 65536',
    ],
    [
      { linux: { resources: { blockIO: { weightDevice: [{ major: 8, minor: 0 }] } } } },
      'linux.resources.blockIO.weightDevice[0]: needs weight or leafWeight',
    ],
    [
      { linux: { resources: { blockIO: { throttleReadBpsDevice: [{ major: 8, minor: 0 }] } } } },
      'linux.resources.blockIO.throttleReadBpsDevice[0].rate: is missing',
    ],
    [
      { linux: { resources: { hugepageLimits: [{ pageSize: '2MB/../x', limit: 1 }] } } },
      'linux.resources.hugepageLimits[0].pageSize: must be a size such as 2MB or 1GB, not "2MB/../x"',
    ],
    [
      { linux: { resources: { network: { priorities: [{ name: 'a b', priority: 1 }] } } } },
      'linux.resources.network.priorities[0].name: must be a name without spaces and slashes, not "a b"',
    ],
    [
      { linux: { resources: { rdma: { 'a\nb': { hcaHandles: 1 } } } } },
      'linux.resources.rdma["a\\nb"]: must be a name without spaces and slashes, not "a\\nb"',
    ],
    [
      { linux: { resources: { unified: { '../memory.max': '1' } } } },
      'linux.resources.unified["../memory.max"]: must be the name of a file in a cgroup, not "../memory.max"',
    ],
    [
      { linux: { rootfsPropagation: 'none' } },
      'linux.rootfsPropagation: must be shared, slave, private, unbindable, rshared, rslave, rprivate or runbindable, not "none"',
    ],
    [{ linux: { maskedPaths: ['proc/x'] } }, 'linux.maskedPaths[0]: must be an absolute path, not "proc/x"'],
    [
      { linux: { namespaces: [], readonlyPaths: ['/x'] } },
      'linux.readonlyPaths: needs a mount namespace in linux.namespaces',
    ],
    [{ linux: { seccomp: {} } }, 'linux.seccomp.defaultAction: is missing'],
    [
      { linux: { seccomp: { defaultAction: 'SCMP_ACT_NOTIFY' } } },
      'linux.seccomp.defaultAction: a listener (SCMP_ACT_NOTIFY) is not supported',
    ],
    [
      seccomp({ action: 'SCMP_ACT_NOTIFY' }),
      'linux.seccomp.syscalls[0].action: a listener (SCMP_ACT_NOTIFY) is not supported',
    ],
    [
      seccomp({ action: 'allow' }),
      'linux.seccomp.syscalls[0].action: must be SCMP_ACT_ALLOW, SCMP_ACT_ERRNO, SCMP_ACT_KILL, SCMP_ACT_KILL_PROCESS, SCMP_ACT_KILL_THREAD, SCMP_ACT_LOG, SCMP_ACT_NOTIFY, SCMP_ACT_TRACE or SCMP_ACT_TRAP, not "allow"',
    ],
    [seccomp({ names: [] }), 'linux.seccomp.syscalls[0].names: must not be empty'],
    [
      seccomp({ args: [{ index: 6, value: 0, op: 'SCMP_CMP_EQ' }] }),
      'linux.seccomp.syscalls[0].args[0].index: must be at most 5, not 6',
    ],
    [
      seccomp({ args: [{ index: 0, value: 0, op: '==' }] }),
      'linux.seccomp.syscalls[0].args[0].op: must be SCMP_CMP_NE, SCMP_CMP_LT, SCMP_CMP_LE, SCMP_CMP_EQ, SCMP_CMP_GE, SCMP_CMP_GT or SCMP_CMP_MASKED_EQ, not "=="',
    ],
    [seccomp({}, { architectures: ['SCMP_ARCH_Z80'] }), 'linux.seccomp.architectures[0]: "SCMP_ARCH_Z80" is not known'],
    [{ linux: { personality: { domain: 'BSD' } } }, 'linux.personality.domain: must be LINUX or LINUX32, not "BSD"'],
    [
      { linux: { personality: { domain: 'LINUX', flags: ['x'] } } },
      'linux.personality.flags: must be empty, none is supported',
    ],
  ])('%j', (change, ...expected) => {
    expect(problems(config(change))).toEqual(expected);
  });
});

test('all problems come at once, always in the same order', () => {
  const wrong = config({
    ociVersion: '1.3.0',
    hostname: 'h',
    mounts: [{ destination: '/a', options: 'ro' }],
    process: { args: [], env: ['A'], rlimits: 5 },
    linux: { namespaces: [{ type: 'pid' }, { type: 'pid' }], sysctl: { 'vm.swappiness': '1' } },
  });
  const expected = [
    'mounts[0].options: must be a list, not "ro"',
    'process.rlimits: must be a list, not 5',
    'ociVersion: of a newer specification: "1.3.0"; this runtime knows up to 1.2',
    'process.args: must not be empty',
    "process.env[0]: must have the form NAME=value, and has no '='",
    'hostname: needs a uts namespace in linux.namespaces',
    'linux.namespaces[1].type: pid is there twice',
    'linux.sysctl["vm.swappiness"]: holds for the whole host, not for a namespace',
  ];
  for (let round = 0; round < 3; round++) expect(problems(wrong)).toEqual(expected);
});

test('of very many problems the first hundred are listed', () => {
  const lines = problems(config({ process: { args: Array(1000).fill(0) } }));
  expect(lines).toHaveLength(101);
  expect(lines.at(-1)).toBe('and 900 more');
});

describe('S22: a sysctl', () => {
  const check = (key: string, value = '1', linux: Json = {}) =>
    problems(config({ linux: { sysctl: { [key]: value }, ...linux } })).map((line) =>
      line.replace(/^linux\.sysctl\S*: |^linux\.sysctl\[.*?\]: /, ''),
    );

  test.each([
    'kernel.msgmax',
    'kernel/msgmnb',
    'kernel.msgmni',
    'kernel.sem',
    'kernel.shmall',
    'kernel.shmmax',
    'kernel.shmmni',
    'kernel.shm_rmid_forced',
    'fs.mqueue.msg_max',
    'fs/mqueue/queues_max',
    'net.ipv4.ip_forward',
    'net/ipv4/conf/eth0.100/rp_filter',
    'net.ipv4.conf.eth0/100.rp_filter',
    'net.ipv4.conf.veth-a@b.rp_filter',
    'kernel.domainname',
  ])('%s is set in a namespace of the container', (key) => {
    expect(check(key)).toEqual([]);
    expect(check(key, '1', { namespaces: [{ type: 'mount' }] })[0]).toMatch(/^needs a (ipc|network|uts) namespace/);
  });

  test.each([
    ['kernel.hostname', 'is what `hostname` is for'],
    ['kernel.core_pattern', 'holds for the whole host, not for a namespace'],
    ['vm.swappiness', 'holds for the whole host, not for a namespace'],
    ['fs.file-max', 'holds for the whole host, not for a namespace'],
    ['kernel.shm_next_id', 'holds for the whole host, not for a namespace'],
    ['net', 'is no name of a sysctl'],
    ['', 'is no name of a sysctl'],
    ['net.', 'is no name of a sysctl'],
    ['/net/ipv4/ip_forward', 'is no name of a sysctl'],
    ['net/../kernel/core_pattern', 'is no name of a sysctl'],
    ['net.//.kernel.core_pattern', 'is no name of a sysctl'],
    ['net/./ipv4/ip_forward', 'is no name of a sysctl'],
    ['net.ipv4.ip_forward ', 'is no name of a sysctl'],
    ['net.ipv4.ip_forward\n', 'is no name of a sysctl'],
    ['net.a=b', 'is no name of a sysctl'],
    ['net.a+b', 'is no name of a sysctl'],
    ['__proto__', 'is no name of a sysctl'],
  ])('%j is refused', (key, message) => {
    expect(check(key)).toEqual([message]);
  });

  test.each(['1\n', '\n1', '1\r', '1+kernel.core_pattern=|/x', '1=2'])('of value %j is refused', (value) => {
    expect(check('net.ipv4.ip_forward', value)).toEqual(["its value must not contain a line break, '+' or '='"]);
  });

  test.each([
    ['network', 'net.core.somaxconn', '/proc/self/ns/net'],
    ['network', 'net.core.somaxconn', '/proc/1/ns/net'],
    ['network', 'net.core.somaxconn', '//proc//thread-self/ns/net'],
    ['ipc', 'kernel.sem', '/proc/self/ns/ipc'],
    ['uts', 'kernel.domainname', '/proc/self/ns/uts'],
  ])("is not set in the host's %s namespace", (type, key, path) => {
    expect(check(key, '1', { namespaces: [{ type, path }] })).toEqual([
      `must not be set in the host's ${type} namespace ${path}`,
    ]);
    expect(check(key, '1', { namespaces: [{ type, path: '/run/netns/a' }] })).toEqual([]);
  });
});

describe('let through', () => {
  test.each(['1.0.0', '1.0.0-rc5', '1.0.2-dev', '1.0.2-dev+a.b', '1.1.0', '1.2.0', '1.2.0+build', '1.2.9'])(
    'version %s',
    (ociVersion) => expect(problems(config({ ociVersion }))).toEqual([]),
  );

  test('no process: `create` needs none', () => {
    const { process: _, ...rest } = config();
    expect(problems(rest)).toEqual([]);
    expect(validateConfig(copy(rest), 'config.json').value.process).toBeUndefined();
  });

  test.each<[string, Parameters<typeof config>[0]]>([
    ['unknown properties', { future: { a: [null] }, root: { path: 'r', more: 1 }, linux: { netDevices: { a: {} } } }],
    [
      'the largest numbers',
      {
        process: { rlimits: [{ type: 'RLIMIT_CORE', soft: 2 ** 64, hard: 2 ** 64 }] },
        linux: { resources: { memory: { limit: 2 ** 63 }, pids: { limit: -1 }, cpu: { quota: -1 } } },
      },
    ],
    ['a whole user namespace', { linux: withUser({ uidMappings: [{ containerID: 0, hostID: 0, size: 4294967295 }] }) }],
    [
      'mappings that touch',
      {
        linux: withUser({
          uidMappings: [
            { containerID: 1, hostID: 1, size: 9 },
            { containerID: 0, hostID: 0, size: 1 },
            { containerID: 10, hostID: 10, size: 1 },
          ],
        }),
      },
    ],
    [
      'mappings beside a user namespace by path',
      { linux: withUser({ namespaces: [{ type: 'user', path: '/proc/9/ns/user' }] }) },
    ],
    [
      'file modes with the type of the file',
      { linux: { devices: [{ type: 'c', path: '/dev/x', major: 1, minor: 3, fileMode: 0o20666, uid: 0, gid: 0 }] } },
    ],
    ['a FIFO without numbers', { linux: { devices: [{ type: 'p', path: '/dev/x' }] } }],
    [
      'any device',
      { linux: { resources: { devices: [{ allow: false, type: 'a', major: -1, minor: -1, access: 'mrw' }] } } },
    ],
    ['an empty seccomp filter', { linux: { seccomp: { defaultAction: 'SCMP_ACT_ALLOW' } } }],
    ['variables with odd names', { process: { env: ['a.b-c d=', 'A==', 'É=1\n2'] } }],
    [
      'empty lists',
      {
        mounts: [],
        hooks: { prestart: [] },
        annotations: {},
        linux: { uidMappings: [], timeOffsets: {}, maskedPaths: [] },
      },
    ],
  ])('%s', (_, change) => expect(problems(config(change))).toEqual([]));
});

describe('after it', () => {
  const checked = (change: Parameters<typeof config>[0]) => validateConfig(copy(config(change)), 'config.json');

  test('null is gone wherever Go programs write it', () => {
    const { value } = checked({
      mounts: [{ destination: '/a', options: null, uidMappings: null }],
      hooks: null,
      annotations: null,
      process: { env: null, capabilities: { ambient: null, bounding: ['CAP_KILL'] }, rlimits: null, oomScoreAdj: null },
      linux: {
        seccomp: {
          defaultAction: 'SCMP_ACT_ERRNO',
          architectures: null,
          syscalls: [{ names: ['a'], action: 'SCMP_ACT_ALLOW', args: null, errnoRet: null }],
        },
        resources: { memory: { limit: null }, devices: null, cpu: null },
        uidMappings: null,
      },
    });
    expect(JSON.stringify(value)).not.toContain('null');
    expect(value.process).toEqual({
      args: ['true'],
      cwd: '/',
      user: { uid: 0, gid: 0 },
      capabilities: { bounding: ['CAP_KILL'] },
    });
    expect(value.mounts).toEqual([{ destination: '/a' }]);
    expect(Object.keys(value)).not.toContain('hooks');
  });

  test('null where something must be is a missing value', () => {
    expect(problems(config({ root: null, process: { args: null, cwd: null } }))).toEqual([
      'root: is missing',
      'process.args: is missing',
      'process.cwd: is missing',
    ]);
  });

  test('empty texts that stand for none are gone', () => {
    const { value } = checked({
      hostname: '',
      mounts: [{ destination: '/a', type: '', source: '' }],
      process: { apparmorProfile: '', selinuxLabel: '' },
      linux: {
        namespaces: [{ type: 'mount', path: '' }],
        cgroupsPath: '',
        rootfsPropagation: '',
        resources: { devices: [{ allow: false, type: '', access: '' }], cpu: { cpus: '', mems: '' } },
      },
    });
    expect(value).toEqual({
      ociVersion: '1.2.0',
      root: { path: 'rootfs' },
      mounts: [{ destination: '/a' }],
      process: { args: ['true'], cwd: '/', user: { uid: 0, gid: 0 } },
      linux: { namespaces: [{ type: 'mount' }], resources: { devices: [{ allow: false }], cpu: {} } },
    });
  });

  test('capabilities that do not exist are gone, with a warning', () => {
    const { value, warnings } = checked({
      process: {
        capabilities: { bounding: ['CAP_KILL', 'CAP_NOPE'], effective: ['CAP_NOPE', 'cap_kill'], other: [1] },
      },
    });
    expect(value.process?.capabilities).toEqual({ bounding: ['CAP_KILL'], effective: [] });
    expect(warnings).toEqual(['process.capabilities: not known, passed over: "CAP_NOPE, cap_kill"']);
  });

  test('propagations have the names of the specification', () => {
    const written = ['shared', 'slave', 'private', 'unbindable', 'rshared', 'rslave', 'rprivate', 'runbindable'];
    expect(
      written.map((rootfsPropagation) => checked({ linux: { rootfsPropagation } }).value.linux?.rootfsPropagation),
    ).toEqual(['shared', 'slave', 'private', 'unbindable', 'shared', 'slave', 'private', 'unbindable']);
  });

  test('a swappiness of -1, unsigned, is none', () => {
    const text = JSON.stringify(config({ linux: { resources: { memory: { limit: 5, swappiness: 1 } } } }));
    const document: unknown = JSON.parse(text.replace('"swappiness":1', '"swappiness":18446744073709551615'));
    const { value } = validateConfig(document, 'config.json');
    expect(value.linux?.resources).toEqual({ memory: { limit: 5 } });
  });

  test('what is passed over has been said', () => {
    const { warnings } = checked({
      mounts: [{ destination: 'data' }],
      linux: { intelRdt: { closID: 'a' }, seccomp: { defaultAction: 'SCMP_ACT_ALLOW', listenerPath: '/run/x' } },
    });
    expect(warnings).toEqual([
      'mounts[0].destination: is not absolute, taken from the root: "data"',
      'linux.seccomp.listenerPath: passed over: no action is SCMP_ACT_NOTIFY',
      'linux.intelRdt: passed over: it is not supported',
    ]);
  });

  test('S23: annotations are there and change nothing else', () => {
    const annotations = {
      'run.oci.seccomp_fail_unknown_syscall': '0',
      'org.systemd.property.DevicePolicy': '"auto"',
      'io.kubernetes.cri-o.Devices': '/dev/sda',
      __proto__x: 'x',
      type: '',
    };
    const { value, warnings } = checked({ annotations });
    expect(value).toEqual({ ...checked({}).value, annotations });
    expect(warnings).toEqual([]);
  });

  test('keys named like the prototype are keys', () => {
    const document: unknown = JSON.parse(
      '{"ociVersion":"1.2.0","root":{"path":"r"},"annotations":{"__proto__":"a","constructor":"b"},"__proto__":{"linux":5}}',
    );
    const { value } = validateConfig(document, 'config.json');
    expect(value.linux).toBeUndefined();
    expect(Object.entries(value.annotations ?? {})).toEqual([
      ['__proto__', 'a'],
      ['constructor', 'b'],
    ]);
  });
});

describe('a process on its own', () => {
  const whole = { args: ['sh'], cwd: '/', env: ['A=1'], user: { uid: 1, gid: 1 } };

  test('is checked like that of a configuration', () => {
    const written = { ...whole, rlimits: null, capabilities: { bounding: ['CAP_X'] } };
    expect(validateProcess(copy(written), 'p.json')).toEqual({
      value: { ...whole, capabilities: { bounding: [] } },
      warnings: ['capabilities: not known, passed over: "CAP_X"'],
    });
  });

  test('has paths that begin with its own keys', () => {
    expect(problems({ ...whole, cwd: 'x', env: ['A'], user: { uid: 'x', gid: 1 } }, validateProcess)).toEqual([
      'user.uid: must be a whole number, not "x"',
      'cwd: must be an absolute path, not "x"',
      "env[0]: must have the form NAME=value, and has no '='",
    ]);
  });

  test.each([
    [null, 'all of it: must be an object, not "null"'],
    [[], 'all of it: must be an object, not a list'],
    [5, 'all of it: must be an object, not 5'],
    ['x', 'all of it: must be an object, not "x"'],
  ])('%j is none', (document, line) => expect(problems(document, validateProcess)).toEqual([line]));
});

test.each([[null], [5], ['x'], [[]], [true]])('%j is no configuration', (document) => {
  expect(problems(document)).toHaveLength(1);
  expect(problems(document)[0]).toMatch(/^all of it: must be an object, not /);
});

test('deep nesting where nothing is known is left alone', () => {
  const document: unknown = JSON.parse(
    `{"ociVersion":"1.2.0","root":{"path":"r"},"more":${'['.repeat(200_000)}${']'.repeat(200_000)}}`,
  );
  expect(validateConfig(document, 'config.json').warnings).toEqual([]);
});

test('many id mappings are compared in little time', () => {
  const mappings = Array.from({ length: 50_000 }, (_, index) => ({ containerID: index, hostID: index, size: 1 }));
  expect(problems(config({ linux: withUser({ uidMappings: mappings }) }))).toEqual([]);
});

describe('S26: the id of a container', () => {
  test.each(['a', 'web-1', '0', '_x', '+a', '-a', 'a.b..c'])('can be %s', (id) => {
    expect(() => checkContainerId(id)).not.toThrow();
  });

  test('can have 1024 characters, no more', () => {
    expect(() => checkContainerId('x'.repeat(1024))).not.toThrow();
    expect(() => checkContainerId('x'.repeat(1025))).toThrow('cannot be the id');
  });

  test.each(['', '.', '..', '.hidden', '../x', 'a/b', '/a', 'a b', 'a\n', 'a\0', 'é', 'a:b'])('cannot be %j', (id) => {
    expect(() => checkContainerId(id)).toThrow(expect.objectContaining({ code: 'TSV_USAGE' }));
  });
});
