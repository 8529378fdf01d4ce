import { describe, expect, test } from 'vitest';
import {
  checkResources,
  defaultRoot,
  listeningDescriptors,
  type RootPlace,
  requirePreserved,
} from '../../../src/app/oci.ts';
import { execProcess } from '../../../src/cli/oci/exec-process.ts';
import { readResources } from '../../../src/cli/oci/resources.ts';
import { asExecFailure } from '../../../src/cli/oci/run.ts';
import { readSignal } from '../../../src/cli/oci/signal.ts';
import { TsvError } from '../../../src/model/errors.ts';
import type { OciProcess } from '../../../src/oci/spec.ts';

describe('signals', () => {
  test.each([
    ['TERM', 15],
    ['SIGKILL', 9],
    ['sigusr1', 10],
    ['winch', 28],
    ['9', 9],
    ['0', 0],
    ['64', 64],
    ['RTMIN', 34],
    ['SIGRTMIN+3', 37],
    ['rtmax-1', 63],
  ])('%s is %i', (text, number) => {
    expect(readSignal(text)).toBe(number);
  });

  test.each(['', 'NOSUCH', 'SIG', '65', '-1', '9x', '1.5', 'RTMIN-1', 'RTMAX+1', 'RTMIN+31', 'toString'])(
    '%j is none',
    (text) => {
      expect(() => readSignal(text)).toThrow(`unknown signal ${JSON.stringify(text)}`);
    },
  );
});

describe('limits for update', () => {
  test('have their places in linux.resources', () => {
    expect(
      readResources({
        'blkio-weight': 500,
        'cpu-period': '100000',
        'cpu-quota': '-1',
        'cpu-share': '512',
        'cpu-rt-period': '1000000',
        'cpu-rt-runtime': '950000',
        'cpuset-cpus': '0-2,7',
        'cpuset-mems': '0',
        memory: '50M',
        'memory-reservation': '1000',
        'memory-swap': '-1',
        'pids-limit': 20,
      }),
    ).toEqual({
      blockIO: { weight: 500 },
      cpu: {
        period: 100000,
        quota: -1,
        shares: 512,
        realtimePeriod: 1000000,
        realtimeRuntime: 950000,
        cpus: '0-2,7',
        mems: '0',
      },
      memory: { limit: 52428800, reservation: 1000, swap: -1 },
      pids: { limit: 20 },
    });
  });

  test('that are not given, 0 or empty name nothing', () => {
    expect(readResources({})).toEqual({});
    expect(
      readResources({ 'blkio-weight': 0, 'pids-limit': 0, memory: '', 'cpuset-cpus': '', 'cpu-share': '' }),
    ).toEqual({});
  });

  test.each([
    ['50000000', 50000000],
    ['1k', 1024],
    ['1KB', 1024],
    ['2MiB', 2097152],
    ['1.5g', 1610612736],
    ['1 G', 1073741824],
    ['-1', -1],
  ])('%s of memory is %i bytes', (memory, limit) => {
    expect(readResources({ memory }).memory).toEqual({ limit });
  });

  test.each([
    [{ memory: 'x' }, 'invalid value for memory: "x"'],
    [{ memory: '-2' }, 'invalid value for memory: "-2"'],
    [{ 'memory-swap': '99999P' }, 'invalid value for memory-swap: "99999P"'],
    [{ 'cpu-share': '-5' }, 'invalid value for cpu-share: "-5"'],
    [{ 'cpu-quota': '1.5' }, 'invalid value for cpu-quota: "1.5"'],
    [{ 'blkio-weight': 70000 }, 'invalid value for blkio-weight: "70000"'],
    [{ 'blkio-weight': -5 }, 'invalid value for blkio-weight: "-5"'],
    [{ 'l3-cache-schema': 'x' }, '--l3-cache-schema: Intel RDT is not supported'],
  ])('%j is refused', (options, message) => {
    expect(() => readResources(options)).toThrow(message);
  });

  test('as JSON are checked, with the path of the mistake', () => {
    expect(checkResources({ memory: { limit: 5 }, cpu: null }, 'r.json')).toEqual({ memory: { limit: 5 } });
    let thrown: unknown;
    try {
      checkResources({ memory: { limit: '1G' } }, 'r.json');
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toMatchObject({
      code: 'TSV_BUNDLE',
      message: 'the resources in r.json is not valid',
      details: ['linux.resources.memory.limit: must be a whole number, not "1G"'],
    });
  });

  test.each([[null], [[]], ['text'], [7]])('%j are none', (document) => {
    expect(() => checkResources(document, 'r.json')).toThrow('not valid');
  });
});

describe('the process of exec', () => {
  const own: OciProcess = {
    terminal: true,
    user: { uid: 33, gid: 34, umask: 0o27, additionalGids: [4] },
    args: ['nginx', '-g', 'daemon off;'],
    env: ['PATH=/bin', 'A=1', 'B=2'],
    cwd: '/srv',
    capabilities: { bounding: ['CAP_KILL'], effective: ['CAP_KILL'], permitted: ['CAP_KILL'], inheritable: [] },
    rlimits: [{ type: 'RLIMIT_NOFILE', soft: 5, hard: 6 }],
    noNewPrivileges: true,
    oomScoreAdj: 3,
    apparmorProfile: 'web',
  };

  test('is the container’s own with another command and without its terminal', () => {
    expect(execProcess(own, ['id', '-u'], {})).toEqual({ ...own, args: ['id', '-u'], terminal: false });
  });

  test('changes by every option', () => {
    expect(
      execProcess(own, ['id'], {
        tty: true,
        cwd: '/tmp',
        env: ['B=3', 'C=4', 'C=5'],
        user: '1000:5',
        'additional-gids': [7, 8],
        cap: ['CAP_NET_RAW', 'CAP_KILL'],
        'no-new-privs': false,
        apparmor: 'other',
        'process-label': 'label',
      }),
    ).toEqual({
      ...own,
      terminal: true,
      args: ['id'],
      cwd: '/tmp',
      env: ['PATH=/bin', 'A=1', 'B=3', 'C=5'],
      user: { uid: 1000, gid: 5, umask: 0o27, additionalGids: [4, 7, 8] },
      capabilities: {
        bounding: ['CAP_KILL', 'CAP_NET_RAW'],
        effective: ['CAP_KILL', 'CAP_NET_RAW'],
        permitted: ['CAP_KILL', 'CAP_NET_RAW'],
        inheritable: [],
        ambient: ['CAP_NET_RAW', 'CAP_KILL'],
      },
      noNewPrivileges: false,
      apparmorProfile: 'other',
      selinuxLabel: 'label',
    });
  });

  test('keeps the group of the container when only a user is named', () => {
    expect(execProcess(own, ['id'], { user: '0' }).user).toMatchObject({ uid: 0, gid: 34 });
  });

  test('of a container without one begins in its root, as its root user', () => {
    expect(execProcess(undefined, ['id'], {})).toEqual({
      cwd: '/',
      args: ['id'],
      env: [],
      user: { uid: 0, gid: 0 },
      terminal: false,
    });
  });

  test.each(['', 'root', '-1', '4294967295', '4294967296', '1:', ':1', '1:2:3', '0x0', ' 0', '1e3'])(
    'S24 the user %j is refused, and never root',
    (user) => {
      expect(() => execProcess(own, ['id'], { user })).toThrow('is not the number of a user or group');
    },
  );

  test('S24 a group that is none is refused', () => {
    expect(() => execProcess(own, ['id'], { 'additional-gids': [-1] })).toThrow('--additional-gids: "-1"');
    expect(() => execProcess(own, ['id'], { 'additional-gids': [4294967295] })).toThrow('is not the number');
  });

  test('needs a command', () => {
    expect(() => execProcess(own, [], {})).toThrow('no command is given');
  });

  test('that does not start is told apart from one that fails', () => {
    const failure = new TsvError('TSV_CONTAINER_STATE', 'm', { hint: 'h', details: ['d'] });
    expect(asExecFailure(failure)).toMatchObject({
      code: 'TSV_CONTAINER_STATE',
      message: 'm',
      hint: 'h',
      details: ['d'],
      exitCode: 255,
    });
    const missing = new TsvError('TSV_COMMAND_NOT_FOUND', 'm', { exitCode: 127 });
    expect(asExecFailure(missing)).toBe(missing);
  });
});

describe('the state folder', () => {
  const place = (changes: Partial<RootPlace>): RootPlace => ({
    euid: 0,
    inUserNamespace: false,
    env: {},
    exists: () => false,
    ...changes,
  });

  test.each([
    ['the host’s root', { env: { XDG_RUNTIME_DIR: '/run/user/0' } }, '/run/tsv-oci'],
    ['a user', { euid: 1000, env: { XDG_RUNTIME_DIR: '/x' } }, '/x/tsv-oci'],
    ['a user without the variable', { euid: 1000, exists: () => true }, '/run/user/1000/tsv-oci'],
    [
      'root of a user namespace, as Podman has it',
      { inUserNamespace: true, env: { XDG_RUNTIME_DIR: '/run/user/1000' } },
      '/run/user/1000/tsv-oci',
    ],
    [
      'root of a container',
      { inUserNamespace: true, env: { XDG_RUNTIME_DIR: '/run/user/0', USER: 'root' } },
      '/run/tsv-oci',
    ],
    ['root of a user namespace without the variable', { inUserNamespace: true }, '/run/tsv-oci'],
  ])('of %s', (_, changes, expected) => {
    expect(defaultRoot(place(changes))).toBe(expected);
  });

  test('of a user who has none has to be named', () => {
    expect(() => defaultRoot(place({ euid: 1000 }))).toThrow('XDG_RUNTIME_DIR is not set');
  });
});

describe('S2 descriptors that a container keeps', () => {
  const open = [
    '/dev/null',
    '/dev/null',
    '/dev/null',
    'socket:[1]',
    '/etc/hostname',
    'anon_inode:[eventpoll]',
    'pipe:[2]',
  ];
  const check = (count: number) => () => requirePreserved(count, 0, (fd) => open[fd]);

  test.each([0, 1, 2])('may be %i that the caller has opened', (count) => {
    expect(check(count)).not.toThrow();
  });

  test.each([3, 4, 1_000_000])('are refused as %i when one of them is our own, or none', (count) => {
    expect(check(count)).toThrow(`--preserve-fds ${count}: descriptor 5 is not open`);
  });

  test('begin behind those that are listened on, which have to be there as well', () => {
    const both = (listening: number, count: number) => () => requirePreserved(count, listening, (fd) => open[fd]);
    expect(both(1, 1)).not.toThrow();
    expect(both(2, 0)).not.toThrow();
    expect(both(1, 2)).toThrow('--preserve-fds 2: descriptor 5 is not open');
    expect(both(3, 1)).toThrow('LISTEN_FDS=3: descriptor 5 is not open');
  });

  test('are listened on when both variables are for this process', () => {
    expect(listeningDescriptors({ LISTEN_FDS: '2', LISTEN_PID: '40' }, 40)).toBe(2);
    for (const env of [
      {},
      { LISTEN_FDS: '2' },
      { LISTEN_PID: '40' },
      { LISTEN_FDS: '2', LISTEN_PID: '4' },
      { LISTEN_FDS: '2', LISTEN_PID: '040' },
      { LISTEN_FDS: '-2', LISTEN_PID: '40' },
      { LISTEN_FDS: '2x', LISTEN_PID: '40' },
      { LISTEN_FDS: '0', LISTEN_PID: '40' },
    ])
      expect(listeningDescriptors(env, 40), JSON.stringify(env)).toBe(0);
  });

  test('are looked up in this process', () => {
    expect(() => requirePreserved(100_000)).toThrow(/descriptor \d+ is not open/);
  });
});
