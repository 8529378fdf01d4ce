import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadProject } from '../../../src/config/index.ts';
import { capabilities } from '../../../src/config/names.ts';
import schema from '../../../src/config/tsfile.schema.json' with { type: 'json' };
import { parseDuration, parseSize } from '../../../src/config/units.ts';
import { type Isolation, isolationOf } from '../../../src/model/project.ts';
import { capabilityNames } from '../../../src/sys/capabilities.ts';
import { boxes, folder, headlines, load, machine, machines, mistakes } from './support.ts';

/** A container `a`, its options from column 5 of line 5 on, one per line. */
const container = (...options: string[]): string =>
  machines(`  a:\n    image: d\n${options.map((line) => `    ${line}\n`).join('')}`);

const isolation = async (...options: string[]): Promise<Isolation> =>
  isolationOf(machine(await load(container(...options)), 'a'));

/** What is said, with places. */
const said = (...options: string[]): Promise<string[]> => headlines(container(...options));

/** The line below the caret of the first mistake. */
const hint = async (...options: string[]): Promise<string | undefined> =>
  (await mistakes(container(...options)))[0]?.split('\n')[3]?.trim();

describe('what a container is without a word about it', () => {
  test('is all there, and plain', async () => {
    expect(await isolation()).toEqual({
      privileged: false,
      capabilities: { add: [], drop: [] },
      seccomp: 'default',
      devices: [],
      sysctls: {},
      tmpfs: [],
      ulimits: [],
      shmBytes: 67_108_864,
      readOnly: false,
      user: { user: 0 },
      init: true,
      stopSignal: 15,
      workdir: '/',
    });
  });

  test('is what the schema gives as defaults', async () => {
    const { properties } = schema.$defs.machine;
    const given = await isolation('command: x');
    expect(given).toMatchObject({
      privileged: properties.privileged.default,
      seccomp: properties.seccomp.default,
      shmBytes: parseSize(properties.shm_size.default),
      readOnly: properties.read_only.default,
      init: properties.init.default,
    });
  });

  test('is also what a record without it means', async () => {
    const { isolation: given, ...old } = machine(await load(container('command: [sleep, 1]')), 'a');
    expect(isolationOf(old)).toEqual(given);
  });

  test('is nothing for a VM', async () => {
    expect('isolation' in machine(await load(machines('  a: { box: d }\n')), 'a')).toBe(false);
  });
});

describe('on a VM', () => {
  test('each option is a mistake at its key', async () => {
    const options = [
      'privileged: true',
      'capabilities: { add: [ALL] }',
      'seccomp: unconfined',
      'devices: []',
      'sysctls: {}',
      'tmpfs: []',
      'ulimits: {}',
      'shm_size: 1M',
      'read_only: false',
      'user: root',
      'init: true',
      'stop_signal: INT',
      'workdir: /',
    ];
    const text = machines(`  a:\n    box: d\n${options.map((line) => `    ${line}\n`).join('')}`);
    expect(await headlines(text)).toEqual(
      options.map((line, i) => `${5 + i}:5: \`${line.split(':')[0]}\` is only for containers`),
    );
  });

  test('a host name and a grace period are fine, and defaults that only containers take', async () => {
    const text = machines('  a: { box: d, hostname: h, stop_grace_period: 10s }\n', 'defaults: { privileged: true }\n');
    expect(machine(await load(text), 'a')).toMatchObject({ hostname: 'h', stopTimeoutMs: 10_000 });
  });
});

describe('defaults', () => {
  const before = 'defaults: { tmpfs: [/run], ulimits: { core: 0 }, user: www-data, init: true, seccomp: unconfined }\n';

  test('are taken by containers and replaced as a whole by their own', async () => {
    const project = await load(
      machines('  a: { image: d, command: x }\n  b: { image: d, ulimits: { nofile: 5 }, seccomp: default }\n', before),
    );
    expect(machine(project, 'a').isolation).toMatchObject({
      tmpfs: [{ path: '/run' }],
      ulimits: [{ name: 'RLIMIT_CORE', soft: 0, hard: 0 }],
      user: { user: 'www-data' },
      init: true,
      seccomp: 'unconfined',
    });
    expect(machine(project, 'b').isolation).toMatchObject({
      tmpfs: [{ path: '/run' }],
      ulimits: [{ name: 'RLIMIT_NOFILE', soft: 5, hard: 5 }],
      seccomp: 'default',
    });
  });

  test('are checked once, also when no container takes them', async () => {
    const wrong = 'defaults: { capabilities: { add: [NET_ADMN] }, stop_signal: TREM, devices: [/dev/none-such] }\n';
    const expected = [
      '2:35: there is no capability `NET_ADMN`',
      '2:61: there is no signal `TREM`',
      '2:77: /dev/none-such does not exist',
    ];
    expect(await headlines(machines('  a: { image: d }\n  b: { image: d }\n', wrong))).toEqual(expected);
    expect(await headlines(machines('  a: { box: d }\n', wrong))).toEqual(expected);
  });

  test('have no host name and no working folder', async () => {
    expect(await headlines(machines('  a: { image: d }\n', 'defaults: { hostname: x, workdir: / }\n'))).toEqual([
      '2:13: unknown key `hostname`',
      '2:26: unknown key `workdir`',
    ]);
  });
});

describe('privileged', () => {
  test('brings all capabilities and no filter', async () => {
    const { capabilities: given, ...rest } = await isolation('privileged: true');
    expect(given).toEqual({ add: capabilityNames, drop: [] });
    expect(rest).toMatchObject({ privileged: true, seccomp: 'unconfined' });
  });

  test('leaves what is dropped, and a filter that is asked for', async () => {
    const given = await isolation('privileged: true', 'capabilities: { drop: [SYS_ADMIN] }', 'seccomp: default');
    expect(given.capabilities.drop).toEqual(['CAP_SYS_ADMIN']);
    expect(given.capabilities.add).toHaveLength(capabilityNames.length - 1);
    expect(given.seccomp).toBe('default');
    expect((await isolation('privileged: true', 'capabilities: { drop: [ALL], add: [KILL] }')).capabilities).toEqual({
      add: ['CAP_KILL'],
      drop: capabilityNames.filter((name) => name !== 'CAP_KILL'),
    });
  });

  test('is true or false', async () => {
    expect(await said('privileged: yes')).toEqual(['5:17: `privileged` must be true or false, not the text "yes"']);
  });
});

describe('capabilities', () => {
  const given = async (value: string) => (await isolation(`capabilities: ${value}`)).capabilities;

  test('are known by the names that the system calls use', () => {
    expect(capabilities.map((name) => `CAP_${name}`)).toEqual(capabilityNames);
  });

  test('are written with or without CAP_, in any case, and come in the order of the kernel', async () => {
    expect(await given('{ add: [SYS_PTRACE, cap_net_admin, Net_Raw], drop: [CAP_CHOWN] }')).toEqual({
      add: ['CAP_NET_ADMIN', 'CAP_NET_RAW', 'CAP_SYS_PTRACE'],
      drop: ['CAP_CHOWN'],
    });
  });

  test('a name counts more than ALL', async () => {
    expect(await given('{ add: [NET_ADMIN], drop: [ALL] }')).toEqual({
      add: ['CAP_NET_ADMIN'],
      drop: capabilityNames.filter((name) => name !== 'CAP_NET_ADMIN'),
    });
    expect(await given('{ add: [all], drop: [SYS_ADMIN] }')).toEqual({
      add: capabilityNames.filter((name) => name !== 'CAP_SYS_ADMIN'),
      drop: ['CAP_SYS_ADMIN'],
    });
  });

  test('that do not exist are refused with the one that was meant', async () => {
    const line = 'capabilities: { add: [CAP_NET_ADMN, 7], drop: [banana] }';
    expect(await said(line)).toEqual([
      '5:27: there is no capability `CAP_NET_ADMN`',
      '5:41: an item of `add` must be a text, not 7',
      '5:52: there is no capability `banana`',
    ]);
    expect(await hint(line)).toBe('did you mean `NET_ADMIN`?');
    expect(await hint('capabilities: { add: [banana] }')).toBe('capabilities(7) lists them');
  });

  test('cannot be added and dropped', async () => {
    expect(await said('capabilities: { add: [KILL, ALL], drop: [cap_kill, all] }')).toEqual([
      '5:46: the capability KILL is added and dropped',
      '5:56: `ALL` is added and dropped',
    ]);
  });

  test('stand in two lists, and other words are explained', async () => {
    expect(await said('capabilities: { ad: [KILL] }', 'cap_add: [KILL]')).toEqual([
      '5:21: unknown key `ad`',
      '6:5: unknown key `cap_add`',
    ]);
    expect(await hint('cap_add: [KILL]')).toBe('use `capabilities: { add: … }`');
  });
});

describe('seccomp', () => {
  test('may be a file beside the Tsfile, with a digest that changes with its content', async () => {
    const dir = folder({ 'Tsfile.yaml': container('seccomp: ./p.json'), 'p.json': '{}' });
    const read = async () => isolationOf(machine(await loadProject(dir, { env: {}, boxes }), 'a')).seccomp;
    const first = await read();
    expect(first).toEqual({ path: join(dir, 'p.json'), digest: expect.stringMatching(/^[0-9a-f]{64}$/) });
    expect(await read()).toEqual(first);
    writeFileSync(join(dir, 'p.json'), '[]');
    expect(await read()).not.toEqual(first);
  });

  test('a file that is not there or no file is refused, and a word that was meant is told', async () => {
    expect(await said('seccomp: ./none.json')).toEqual(['5:14: the seccomp profile ./none.json does not exist']);
    expect(await said('seccomp: .')).toEqual(['5:14: the seccomp profile . is a folder, not a file']);
    expect(await said('seccomp: /dev/null')).toEqual([
      '5:14: the seccomp profile /dev/null is neither a file nor a folder',
    ]);
    expect(await said('seccomp: ""')).toEqual(['5:14: `seccomp` must not be an empty text']);
    expect(await hint('seccomp: unconfind')).toBe('did you mean `unconfined`?');
    expect(await hint('seccomp: ./none.json')).toBe('`default`, `unconfined` or a file');
  });
});

describe('devices', () => {
  const given = async (value: string) => (await isolation(`devices: [${value}]`)).devices;

  test('have a place in the container and an access of their own, if asked for', async () => {
    expect(
      await given('/dev/null, "/dev/zero:/dev/../dev/nothing:mr", "/dev/full:w"').catch((error: unknown) => error),
    ).toMatchObject({ details: [expect.stringContaining('the path /dev/../dev/nothing goes through `..`')] });
    expect(await given('/dev/null, "/dev/zero:/dev//nothing:mr", "/dev/full:w", "/dev/null:/x"')).toEqual([
      { host: '/dev/null', container: '/dev/null', access: 'rwm' },
      { host: '/dev/zero', container: '/dev/nothing', access: 'rm' },
      { host: '/dev/full', container: '/dev/full', access: 'w' },
      { host: '/dev/null', container: '/x', access: 'rwm' },
    ]);
  });

  test('must be there and be devices', async () => {
    const dir = folder();
    mkdirSync(join(dir, 'sub'));
    expect(await said(`devices: [/dev/none-such, ${dir}/sub, /dev/null/x]`)).toEqual([
      '5:15: /dev/none-such does not exist',
      `5:31: ${dir}/sub is not a device`,
      expect.stringMatching(/^5:\d+: \/dev\/null\/x does not exist: a part of its path is a file$/),
    ]);
    expect(await hint(`devices: [${dir}]`)).toBe('`share` is for files and folders');
  });

  test('cannot be in places of the kernel, and not two in one', async () => {
    expect(
      await said('devices: ["/dev/null:/proc/x", "/dev/null:/dev", "/dev/null:/x", "/dev/zero:/x/", "/dev/null:/"]'),
    ).toEqual([
      '5:15: a device cannot be at /proc/x of a container',
      '5:36: a device cannot be at /dev of a container',
      '5:70: two devices are at /x',
      '5:87: a device cannot be at / of a container',
    ]);
  });

  test.each(['dev/null', '/dev/null:x', '/dev/null:rwx', '/dev/null:/x:rwmr', ''])('%j is refused', async (text) => {
    expect(await said(`devices: ["${text}"]`)).toEqual([
      `5:15: "${text}" is not a device (HOST, HOST:CONTAINER or HOST:CONTAINER:ACCESS, with absolute paths and r, w, m, such as /dev/fuse)`,
    ]);
  });
});

describe('sysctls', () => {
  const given = async (value: string) => (await isolation(`sysctls: { ${value} }`)).sysctls;

  test('are texts, numbers as they are written', async () => {
    expect(
      await given(
        'net.core.somaxconn: 1024, kernel.sem: "250 32000 100 128", kernel.shmmax: 18446744073692774399, kernel.msgmax: 0x10, net.ipv4.conf.eth0.rp_filter: -1, fs.mqueue.msg_max: 1e2',
      ),
    ).toEqual({
      'net.core.somaxconn': '1024',
      'kernel.sem': '250 32000 100 128',
      'kernel.shmmax': '18446744073692774399',
      'kernel.msgmax': '16',
      'net.ipv4.conf.eth0.rp_filter': '-1',
      'fs.mqueue.msg_max': '100',
    });
  });

  test.each([
    'kernel.core_pattern',
    'kernel.hostname',
    'kernel.semaphore',
    'vm.overcommit_memory',
    'fs.file-max',
    'net',
    'net.',
    'net..core',
    'net/core/somaxconn',
    'net.../../kernel/core_pattern',
    'net.core.somaxconn ',
    'kernel.shm_/../core_pattern',
    'user.max_user_namespaces',
  ])('S22 %j, which is not of the container alone, is refused', async (name) => {
    expect(await said(`sysctls: { "${name}": 1 }`)).toEqual([
      `5:16: "${name}" is not a setting that a container has for itself (net.…, kernel.msg…, kernel.sem, kernel.shm…, fs.mqueue.…)`,
    ]);
  });

  test.each(['1\\n2', '1+2', 'a=b', '\\r', ''])('S22 the value "%s" is refused', async (value) => {
    expect(await said(`sysctls: { net.core.somaxconn: "${value}" }`)).toEqual([
      expect.stringMatching(/^5:36: ".*" is not a value for a kernel setting \(one line, without \+ and =\)$/),
    ]);
  });

  test('S22 a value that comes from a variable is held to the same', async () => {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: Tsfiles have ${VAR}
    const text = container('sysctls: { net.core.somaxconn: "${N}" }');
    expect(await headlines(text, { N: '1+kernel.core_pattern=x' })).toHaveLength(1);
    expect(isolationOf(machine(await load(text, { N: '7' }), 'a')).sysctls).toEqual({ 'net.core.somaxconn': '7' });
  });

  test('other types and numbers that the kernel does not read are refused', async () => {
    expect(await said('sysctls: { net.a: true, net.b: 1.5, net.c: 1e30, net.d: +5e40 }')).toEqual([
      '5:23: `net.a` must be a text or a whole number, not true',
      '5:36: `net.b` must be a text or a whole number, not 1.5',
      '5:48: 1e30 is not a number that the kernel reads',
      '5:61: +5e40 is not a number that the kernel reads',
    ]);
  });
});

describe('tmpfs', () => {
  test('is a path with a size and a mode, if asked for', async () => {
    expect((await isolation('tmpfs: [/run/, "/tmp:size=64M,mode=1777", "/x:mode=0755"]')).tmpfs).toEqual([
      { path: '/run' },
      { path: '/tmp', sizeBytes: 64 * 2 ** 20, mode: 0o1777 },
      { path: '/x', mode: 0o755 },
    ]);
  });

  test('with options that mean nothing is refused', async () => {
    const line = 'tmpfs: ["/a:siez=5", "/b:size=50%", "/c:size=0", "/d:mode=9", "/e:", run, "/f:a:b"]';
    expect(await said(line)).toEqual([
      '5:13: there is no option "siez" here',
      '5:26: "50%" is no size of a folder in memory',
      '5:41: a folder in memory has at least 4K',
      '5:54: "9" is no file mode',
      '5:67: there is no option "" here',
      '5:74: "run" is not a folder in memory (PATH or PATH:size=SIZE,mode=MODE, such as /run)',
      '5:79: "/f:a:b" is not a folder in memory (PATH or PATH:size=SIZE,mode=MODE, such as /run)',
    ]);
    expect(await hint(line)).toBe('did you mean `size`?');
    expect(await hint('tmpfs: ["/a:noexec"]')).toBe('size=SIZE, mode=MODE');
  });

  test('cannot be in places of the kernel, where a share is, and not twice in one', async () => {
    expect(
      await said('share: [{ host: ., guest: /s }]', 'tmpfs: [/proc/x, /dev/shm, /, /a, "/a/", /s, /b/../c]'),
    ).toEqual([
      '6:13: /proc/x of a container cannot be replaced by a folder in memory',
      '6:22: /dev/shm of a container cannot be replaced by a folder in memory',
      '6:32: / of a container cannot be replaced by a folder in memory',
      '6:39: two folders in memory are at /a',
      '6:46: a share is at /s, too',
      '6:50: the path /b/../c goes through `..`',
    ]);
    expect(await hint('tmpfs: [/dev/shm]')).toBe('its size is `shm_size`');
  });
});

describe('ulimits', () => {
  test('are one number or two, or unlimited, in the order of their names', async () => {
    expect(
      (
        await isolation(
          'ulimits: { nproc: { soft: 100, hard: 200 }, nofile: 65536, core: -1, memlock: unlimited, as: { soft: 1, hard: "-1" } }',
        )
      ).ulimits,
    ).toEqual([
      { name: 'RLIMIT_AS', soft: 1, hard: 'unlimited' },
      { name: 'RLIMIT_CORE', soft: 'unlimited', hard: 'unlimited' },
      { name: 'RLIMIT_MEMLOCK', soft: 'unlimited', hard: 'unlimited' },
      { name: 'RLIMIT_NOFILE', soft: 65536, hard: 65536 },
      { name: 'RLIMIT_NPROC', soft: 100, hard: 200 },
    ]);
  });

  test('of other names and values are refused', async () => {
    const line = 'ulimits: { nofil: 1, cpu: -2, data: 64M, rss: 18446744073709551615, stack: { soft: 1 }, nice: 1.5 }';
    expect(await said(line)).toEqual([
      '5:16: unknown key `nofil`',
      '5:31: `cpu` must be at least -1, not -2',
      '5:41: "64M" is not a limit (a whole number, or `unlimited`)',
      '5:51: 18446744073709551615 is more than any limit',
      '5:73: `stack` needs `hard`',
      '5:99: `nice` must be a whole number, a text or a map, not 1.5',
    ]);
    expect(await hint(line)).toBe('did you mean `nofile`?');
  });

  test('a soft limit is at most the hard one', async () => {
    expect(
      await said('ulimits: { nofile: { soft: 2, hard: 1 }, core: { soft: -1, hard: 0 }, cpu: { soft: 1, hard: 1 } }'),
    ).toEqual([
      '5:32: the soft limit 2 of `nofile` is above the hard one, 1',
      '5:60: the soft limit unlimited of `core` is above the hard one, 0',
    ]);
  });
});

describe('shm_size and read_only', () => {
  test('are a size and a yes or no', async () => {
    expect(await isolation('shm_size: 1.5G', 'read_only: true')).toMatchObject({
      shmBytes: 1.5 * 2 ** 30,
      readOnly: true,
    });
    expect(await said('shm_size: 4095', 'read_only: 1')).toEqual([
      '5:15: `shm_size` is at least 4K',
      '6:16: `read_only` must be true or false, not 1',
    ]);
    expect(await said('shm_size: 0K')).toEqual(['5:15: `shm_size` is at least 4K']);
    expect(await said('shm_size: big')).toEqual([
      '5:15: "big" is not a size (a number with K, M, G or T, such as 512M or 1.5G, or bytes)',
    ]);
  });
});

describe('user', () => {
  test.each([
    ['www-data', { user: 'www-data' }],
    ['1000', { user: 1000 }],
    ['"1000"', { user: 1000 }],
    ['1000:100', { user: 1000, group: 100 }],
    ['app:100', { user: 'app', group: 100 }],
    ['4294967294:staff', { user: 4294967294, group: 'staff' }],
    ['0', { user: 0 }],
  ])('%s is understood', async (written, user) => {
    expect((await isolation(`user: ${written}`)).user).toEqual(user);
  });

  const notUser = 'is not a user (NAME or UID, then :GROUP or :GID if wanted)';
  test.each([
    ['4294967295', '5:11: `user` must be at most 4294967294, not 4294967295'],
    ['4294967296', '5:11: `user` must be at most 4294967294, not 4294967296'],
    ['"4294967296"', '5:11: 4294967296 is no id of a user or group'],
    ['app:4294967295', '5:11: 4294967295 is no id of a user or group'],
    ['18446744073709551616:0', '5:11: 18446744073709551616 is no id of a user or group'],
    ['-1', '5:11: `user` must be at least 0, not -1'],
    ['"-1"', `5:11: "-1" ${notUser}`],
    ['1.5', '5:11: `user` must be a text or a whole number, not 1.5'],
    ['""', `5:11: "" ${notUser}`],
    ['":0"', `5:11: ":0" ${notUser}`],
    ['"app:"', `5:11: "app:" ${notUser}`],
    ['"a b"', `5:11: "a b" ${notUser}`],
    ['a:b:c', `5:11: "a:b:c" ${notUser}`],
    ['"../x"', `5:11: "../x" ${notUser}`],
    ['', '5:5: `user` is empty'],
  ])('S24 %s is refused, and never root', async (written, message) => {
    expect(await said(`user: ${written}`)).toEqual([message]);
  });

  test('S24 an empty variable is refused', async () => {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: Tsfiles have ${VAR}
    expect(await headlines(container('user: "${U:-}"'))).toEqual([`5:11: "" ${notUser}`]);
  });
});

describe('init', () => {
  test('is there without a command, and with one when asked for', async () => {
    expect((await isolation()).init).toBe(true);
    expect((await isolation('init: true')).init).toBe(true);
    expect((await isolation('command: x')).init).toBe(false);
    expect((await isolation('command: x', 'init: true')).init).toBe(true);
  });

  test('cannot be left out where nothing else runs; a default may say so', async () => {
    expect(await said('init: false')).toEqual(['5:5: without a `command`, the init is all that runs']);
    const project = await load(machines('  a: { image: d }\n', 'defaults: { init: false }\n'));
    expect(machine(project, 'a').isolation?.init).toBe(true);
  });
});

describe('stopping', () => {
  test.each([
    ['SIGTERM', 15],
    ['term', 15],
    ['15', 15],
    ['"9"', 9],
    ['sigquit', 3],
    ['RTMIN', 34],
    ['RTMIN+3', 37],
    ['SIGRTMAX-1', 63],
    ['64', 64],
  ])('the signal %s is number %i', async (written, number) => {
    expect((await isolation(`stop_signal: ${written}`)).stopSignal).toBe(number);
  });

  test.each([
    ['SIGTREM', '5:18: there is no signal `SIGTREM`'],
    ['RTMIN+31', '5:18: there is no signal `RTMIN+31`'],
    ['RTMIN-1', '5:18: there is no signal `RTMIN-1`'],
    ['"0"', '5:18: there is no signal `0`'],
    ['""', '5:18: there is no signal ``'],
    ['0', '5:18: `stop_signal` must be at least 1, not 0'],
    ['65', '5:18: `stop_signal` must be at most 64, not 65'],
    ['toString', '5:18: there is no signal `toString`'],
  ])('the signal %s is refused', async (written, message) => {
    expect(await said(`stop_signal: ${written}`)).toEqual([message]);
  });

  test('a typo in a signal is told', async () => {
    expect(await hint('stop_signal: SIGTREM')).toBe('did you mean `TERM`?');
  });

  test('the grace period is the stop timeout, on a machine and in defaults', async () => {
    const project = await load(
      machines(
        '  a: { image: d }\n  b: { image: d, stop_timeout: 7s }\n  c: { image: d, stop_grace_period: 8s }\n',
        'defaults: { stop_grace_period: 6s }\n',
      ),
    );
    expect(project.machines.map(({ stopTimeoutMs }) => stopTimeoutMs)).toEqual([6000, 7000, 8000]);
    expect((await load(container())).machines[0]?.stopTimeoutMs).toBe(
      parseDuration(schema.$defs.machine.properties.stop_timeout.default),
    );
  });

  test('both names at once are a mistake, and so is no time', async () => {
    const twice = '`stop_grace_period` is another name for `stop_timeout`, which is given, too';
    expect(await said('stop_timeout: 5s', 'stop_grace_period: 5s')).toEqual([`6:5: ${twice}`]);
    expect(
      await headlines(machines('  a: { image: d }\n', 'defaults: { stop_grace_period: 5s, stop_timeout: 5s }\n')),
    ).toEqual([`2:13: ${twice}`]);
    expect(await said('stop_grace_period: 0s')).toEqual(['5:24: 0s is no time at all']);
    expect(await said('stop_grace_period: 10')).toEqual(['5:24: `stop_grace_period` must be a text, not 10']);
  });
});

describe('workdir', () => {
  test('is an absolute path in the container', async () => {
    expect((await isolation('workdir: /srv//app/')).workdir).toBe('/srv/app');
    expect(await said('workdir: srv')).toEqual([
      '5:14: "srv" is not an absolute path in the machine (it starts with /)',
    ]);
    expect(await said('workdir: /a/../b')).toEqual(['5:14: the path /a/../b goes through `..`']);
    expect(await hint('working_dir: /')).toBe('use `workdir`');
  });
});

test('the isolation is plain JSON, so that the state can hold it', async () => {
  const given = await isolation(
    'privileged: true',
    'devices: [/dev/null]',
    'tmpfs: ["/t:size=1M"]',
    'ulimits: { core: -1 }',
    'sysctls: { net.core.somaxconn: 1 }',
  );
  expect(JSON.parse(JSON.stringify(given))).toEqual(given);
});
