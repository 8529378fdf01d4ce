import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, type TestContext, test } from 'vitest';
import packageJson from '../../package.json' with { type: 'json' };
import { hookKinds, type OciHookKind, type OciState } from '../../src/oci/spec.ts';
import {
  type Container,
  cgroupsNamed,
  consoleSocket,
  type Draft,
  isRoot,
  ociHost,
  useRootfs,
} from '../support/bundle.ts';
import { listProcesses, readProcess } from '../support/host-processes.ts';
import { until } from '../support/until.ts';

useRootfs();

/** For what an ordinary user may not do. */
const root = (why: string) => (name: string, work: (context: TestContext) => Promise<void>) =>
  test(name, (context) => (isRoot ? work(context) : context.skip(`needs root: ${why}`)));
const manyIds = root('a user can map one id alone without help');
const cgroups = root('a user may make no cgroups here');
const foreign = root("another one's namespace or an interface of the host");
const devices = root('a user can make no device nodes');

const grep = (pattern: RegExp, text: string): string => pattern.exec(text)?.[1] ?? `nothing like ${pattern} in ${text}`;

describe('the lifecycle of a container', () => {
  test('is create, start, kill and delete, and the state says where it is', async () => {
    const box = ociHost().container('echo started; exec sleep 1000', (config) => {
      config.annotations = { 'org.example.color': 'blue', empty: '' };
    });
    await box.ok('create');
    const created = await box.state();
    expect(created).toEqual({
      ociVersion: '1.2.0',
      id: box.id,
      status: 'created',
      pid: created.pid,
      bundle: box.bundle,
      rootfs: box.rootfs,
      created: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d.*Z$/),
      annotations: { 'org.example.color': 'blue', empty: '' },
    });
    expect(created.pid).toBeGreaterThan(1);
    expect(box.output).toBe('');
    await box.ok('start');
    expect(await box.state()).toEqual({ ...created, status: 'running' });
    await until('it has begun', () => box.output === 'started\n');
    expect(readProcess(created.pid ?? 0)?.command).toBe('sleep 1000');
    await box.ok('kill', 'KILL');
    await box.becomes('stopped');
    expect((await box.state()).pid).toBe(0);
    await box.ok('delete');
    const { code, stderr } = await box.call('state');
    expect(code).toBe(1);
    expect(stderr).toContain(`container does not exist: ${box.id}`);
    await box.host.expectNothingLeft();
  });

  test('a second start is an error and changes nothing', async () => {
    const box = ociHost().container();
    await box.ok('create');
    await box.ok('start');
    const before = await box.state();
    const { code, stderr } = await box.call('start');
    expect(code).toBe(1);
    expect(stderr).toContain('running');
    expect(await box.state()).toEqual(before);
  });

  test('a stopped container starts no more', async () => {
    const box = ociHost().container('true');
    await box.ok('create');
    await box.ok('start');
    await box.becomes('stopped');
    expect((await box.call('start')).code).toBe(1);
    expect((await box.call('exec', 'true')).code).toBe(255);
    expect((await box.call('kill', 'TERM')).code).toBe(1);
  });

  test('an id that is taken cannot be created again, and what has it runs on', async () => {
    const box = ociHost().container();
    await box.ok('run --detach');
    const { code, stderr } = await box.call('create');
    expect(code).toBe(1);
    expect(stderr).toContain(`container with id exists: ${box.id}`);
    expect((await box.state()).status).toBe('running');
  });

  test('a running container is deleted by force alone, and one that is not there is no error then', async () => {
    const box = ociHost().container();
    await box.ok('run --detach');
    const pid = await box.pid();
    const { code, stderr } = await box.call('delete');
    expect(code).toBe(1);
    expect(stderr).toContain('running');
    await box.ok('delete --force');
    expect(readProcess(pid)).toBeUndefined();
    expect((await box.call('delete')).code).toBe(1);
    await box.ok('delete --force');
    await box.host.expectNothingLeft();
  });

  test('a created container that never starts is deleted without force', async () => {
    const box = ociHost().container();
    await box.ok('create');
    await box.ok('delete');
    await box.host.expectNothingLeft();
  });

  test('signals are names or numbers, and reach the process', async () => {
    const box = ociHost().container(
      'trap "echo usr1" USR1; trap "exit 3" TERM; echo ready; while :; do sleep 0.01; done',
    );
    await box.ok('run --detach');
    await until('it is ready', () => box.output === 'ready\n');
    await box.ok('kill', 'SIGUSR1');
    await until('it has the signal', () => box.output === 'ready\nusr1\n');
    await box.ok('kill', '0');
    await box.ok('kill', '10');
    await until('it has the second', () => box.output === 'ready\nusr1\nusr1\n');
    await box.ok('kill', 'term');
    await box.becomes('stopped');
    const wrong = await box.call('kill', 'SIGNONSENSE');
    expect(wrong.code).toBe(1);
    expect(wrong.stderr).toContain('SIGNONSENSE');
  });

  cgroups('kill --all reaches every process', async () => {
    const box = ociHost().container('sleep 1001 & sleep 1002 & wait; echo gone; exec sleep 1000');
    await box.ok('run --detach');
    await until('three run', async () => (JSON.parse(await box.ok('ps --format json')) as number[]).length === 3);
    await box.ok('kill --all', 'KILL');
    await box.becomes('stopped');
    expect(box.output).toBe('');
  });

  test('config.json may change after create: it counts as it was', async () => {
    const box = ociHost().container('echo first');
    await box.ok('create');
    box.write('{}');
    await box.ok('start');
    await until('it has spoken', () => box.output === 'first\n');
  });

  test('the pid file holds the pid of the process, without a line end', async () => {
    const box = ociHost().container();
    const file = join(box.bundle, 'pid');
    await box.ok(`create --pid-file ${file}`);
    expect(readFileSync(file, 'utf8')).toBe(String(await box.pid()));
    await box.ok('start');
    const execFile = join(box.bundle, 'exec-pid');
    await box.ok(`exec --detach --pid-file ${execFile}`, 'sleep', '1234');
    expect(readProcess(Number(readFileSync(execFile, 'utf8')))?.command).toBe('sleep 1234');
  });
});

describe('run', () => {
  test('joins standard input and outputs, and ends with the exit code of the process', async () => {
    const box = ociHost().container('cat; echo problem >&2; exit 7');
    expect(await box.callWith({ input: 'through\n' }, 'run')).toEqual({
      code: 7,
      stdout: 'through\n',
      stderr: 'problem\n',
    });
    await box.host.expectNothingLeft();
  });

  test('gives 128 and the number of the signal that ended the process', async () => {
    // PID 1 of a PID namespace would be spared by its own signal.
    const box = ociHost().container('kill -SEGV $$', (config) => {
      config.linux.namespaces = config.linux.namespaces.filter(({ type }) => type !== 'pid');
      config.mounts = [];
    });
    expect((await box.call('run')).code).toBe(139);
  });

  test('passes signals on', async () => {
    const box = ociHost().container('trap "echo told; exit 4" TERM; echo ready; while :; do sleep 0.01; done');
    const running = box.host.start(box.args('run'));
    await running.prints(/ready/);
    running.signal('SIGTERM');
    await until('it is told', () => running.output().stdout.includes('told'));
    expect(await running.result).toEqual({ code: 4, stdout: 'ready\ntold\n', stderr: '' });
    await box.host.expectNothingLeft();
  });

  test('--keep leaves the container stopped', async () => {
    const box = ociHost().container('exit 2');
    expect((await box.call('run --keep')).code).toBe(2);
    expect((await box.state()).status).toBe('stopped');
    await box.ok('delete');
  });

  test.each([
    [127, '/bin/nonsense'],
    [127, 'nonsense'],
    [126, '/etc/passwd'],
    [126, '/etc'],
  ])('ends with %d for a command such as %s, and leaves nothing', async (expected, command) => {
    const box = ociHost().container([command]);
    const { code, stderr } = await box.call('run');
    expect(code).toBe(expected);
    expect(stderr).toContain(command);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    await box.host.expectNothingLeft();
  });

  test('create or start says that there is no such command, and the container can be deleted', async () => {
    const box = ociHost().container(['/bin/nonsense']);
    const results = [await box.call('create')];
    if (results[0]?.code === 0) results.push(await box.call('start'));
    expect(results.at(-1)?.code).not.toBe(0);
    expect(results.at(-1)?.stderr).toContain('/bin/nonsense');
    await box.ok('delete --force');
  });
});

describe('exec', () => {
  test('runs in the container, with its environment, and gives the exit code', async () => {
    const box = ociHost().container();
    await box.ok('run --detach');
    const script = 'hostname; echo $A $PATH; pwd; cat; readlink /proc/self/ns/pid; exit 9';
    const { code, stdout } = await box.callWith({ input: 'input\n' }, 'exec --env A=b --cwd /tmp', 'sh', '-c', script);
    const pid = await box.pid();
    expect(stdout).toBe(`box\nb /bin\n/tmp\ninput\n${readlinkSync(`/proc/${pid}/ns/pid`)}\n`);
    expect(code).toBe(9);
  });

  manyIds('runs as another user with more groups', async () => {
    const box = ociHost().container();
    await box.ok('run --detach');
    expect(await box.ok('exec --user 1000:7 --additional-gids 8 --additional-gids 9', 'id')).toBe(
      'uid=1000(user) gid=7 groups=8,9\n',
    );
  });

  test('takes all of it from a file', async () => {
    const box = ociHost().container();
    await box.ok('run --detach');
    const file = join(box.bundle, 'process.json');
    const process = {
      user: { uid: 0, gid: 0 },
      args: ['sh', '-c', 'echo $ONE; pwd'],
      env: ['ONE=1', 'PATH=/bin'],
      cwd: '/etc',
    };
    writeFileSync(file, JSON.stringify(process));
    expect(await box.ok(`exec --process ${file}`)).toBe('1\n/etc\n');
    writeFileSync(file, JSON.stringify({ ...process, args: 'sh' }));
    const { code, stderr } = await box.call(`exec --process ${file}`);
    expect(code).not.toBe(0);
    expect(stderr).toContain('args');
  });

  test('gives a capability more, and those of the container without', async () => {
    const box = ociHost().container();
    await box.ok('run --detach');
    const bounding = async (flags: string) =>
      BigInt(`0x${grep(/^CapEff:\s*([0-9a-f]+)$/m, await box.ok(flags, 'cat', '/proc/self/status'))}`);
    const [CAP_KILL, CAP_NET_BIND_SERVICE, CAP_AUDIT_WRITE, CAP_SYS_CHROOT] = [5n, 10n, 29n, 18n];
    const own = (1n << CAP_KILL) | (1n << CAP_NET_BIND_SERVICE) | (1n << CAP_AUDIT_WRITE);
    expect(await bounding('exec')).toBe(own);
    expect(await bounding('exec --cap CAP_SYS_CHROOT')).toBe(own | (1n << CAP_SYS_CHROOT));
  });

  test.each([
    [127, 'nonsense'],
    [126, '/etc/passwd'],
  ])('ends with %d for %s', async (expected, command) => {
    const box = ociHost().container();
    await box.ok('run --detach');
    const { code, stderr } = await box.call('exec', command);
    expect(code).toBe(expected);
    expect(stderr).toContain(command);
  });

  test('hands on as many descriptors as it is told, and no others', async () => {
    const box = ociHost().container();
    await box.ok('run --detach');
    const opened = (flag: string) =>
      box.host.spawn([
        'sh',
        '-c',
        'exec 3</dev/null 4</dev/null 5</dev/null "$@"',
        'sh',
        ...box.host.argv(box.args(`exec${flag}`, ['sh', '-c', 'exec ls /proc/self/fd'])),
      ]).result;
    // The folder that ls lists is open too.
    expect((await opened('')).stdout.trim().split('\n')).toEqual(['0', '1', '2', '3']);
    expect((await opened(' --preserve-fds 2')).stdout.trim().split('\n')).toEqual(['0', '1', '2', '3', '4', '5']);
  });
});

describe('a terminal', () => {
  const terminal = (config: Draft) => {
    config.process.terminal = true;
    config.process.consoleSize = { width: 91, height: 33 };
  };

  test('is sent to the console socket', async () => {
    const host = ociHost();
    const box = host.container('tty; stty size; read line; echo "got $line"', terminal);
    const path = join(box.bundle, 'socket');
    const receiver = await consoleSocket(host, path);
    await box.ok(`create --console-socket ${path}`);
    await receiver.prints(/terminal yes/);
    await box.ok('start');
    const { stdout } = await receiver.result;
    expect(stdout).toMatch(/\/dev\/(pts\/0|console)/);
    expect(stdout).toContain('33 91');
    expect(stdout).toContain('got typed');
    expect(stdout).toContain('hung up');
    await box.becomes('stopped');
  });

  test('is asked for and has nowhere to go: create leaves nothing', async () => {
    const box = ociHost().container('true', terminal);
    const { code, stderr } = await box.call('create');
    expect(code).toBe(1);
    expect(stderr).toContain('console-socket');
    await box.host.expectNothingLeft();
  });

  test('without one the console socket is refused', async () => {
    const box = ociHost().container('true');
    const { code, stderr } = await box.call(`create --console-socket ${join(box.bundle, 'none')}`);
    expect(code).toBe(1);
    expect(stderr).toContain('console-socket');
    await box.host.expectNothingLeft();
  });

  test('of run is the one that it runs on, with its keys, and the exit code passes through', async () => {
    const box = ociHost().container('tty; echo ready; read line; echo "got $line"; exit 5', terminal);
    const running = box.host.startOnTerminal(box.args('run'));
    await running.prints(/ready/);
    running.write('some words\r');
    const { code, stdout } = await running.result;
    expect(stdout).toContain('got some words');
    expect(code).toBe(5);
  });

  test('of exec passes Ctrl-C on', async () => {
    const box = ociHost().container();
    await box.ok('run --detach');
    const running = box.host.startOnTerminal(box.args('exec --tty', ['sh', '-c', 'tty; echo ready; exec sleep 1000']));
    await running.prints(/ready/);
    running.write('\x03');
    expect((await running.result).code).toBe(130);
  });
});

describe('hooks', () => {
  /** Each appends its kind, its name, where it runs, and what it was told. */
  const logging = (kind: OciHookKind, box: Container, name: string) => {
    const log = kind === 'startContainer' ? '/hooks' : join(box.rootfs, 'hooks');
    const script = `echo "${kind} $0 $WHAT $(readlink /proc/self/ns/mnt) $(readlink /proc/self/ns/uts) $(cat)" >>${log}`;
    return { path: '/bin/sh', args: ['sh', '-c', script, name], env: ['PATH=/bin:/usr/bin', `WHAT=${name}.`] };
  };

  test('of all six kinds run in order, where they belong, with the state on standard input', async () => {
    const box = ociHost().container('exec sleep 1000', (config, box) => {
      config.annotations = { a: 'b' };
      const both = (kind: OciHookKind) => ['one', 'two'].map((name) => logging(kind, box, name));
      config.hooks = Object.fromEntries(hookKinds.map((kind) => [kind, both(kind)]));
    });
    const ran = () =>
      box
        .read('hooks')
        .split('\n')
        .filter(Boolean)
        .map((line) => {
          const [, kind, name, env, mnt, uts, state] = /^(\S+) (\S+) (\S+) (\S+) (\S+) (.*)$/.exec(line) ?? [];
          return { kind, name, env, mnt, uts, state: JSON.parse(state ?? '') as OciState };
        });
    const kinds = () => ran().map(({ kind, name, env }) => `${kind} ${name} ${env}`);
    const twice = (...all: string[]) => all.flatMap((kind) => [`${kind} one one.`, `${kind} two two.`]);

    await box.ok('create');
    expect(kinds()).toEqual(twice('prestart', 'createRuntime', 'createContainer'));
    const pid = await box.pid();
    const inside = { mnt: readlinkSync(`/proc/${pid}/ns/mnt`), uts: readlinkSync(`/proc/${pid}/ns/uts`) };
    await box.ok('start');
    expect(kinds().slice(6)).toEqual(twice('startContainer', 'poststart'));
    await box.ok('kill', 'KILL');
    await box.becomes('stopped');
    expect(ran()).toHaveLength(10);
    await box.ok('delete');
    expect(kinds().slice(10)).toEqual(twice('poststop'));

    const here = { mnt: readlinkSync('/proc/self/ns/mnt'), uts: readlinkSync('/proc/self/ns/uts') };
    const statuses: Record<string, string> = { startContainer: 'created', poststart: 'running', poststop: 'stopped' };
    for (const { kind = '', mnt, uts, state } of ran()) {
      const isInside = kind === 'createContainer' || kind === 'startContainer';
      expect({ kind, mnt, uts }).toEqual({ kind, ...(isInside ? inside : here) });
      expect(state).toMatchObject({ ociVersion: '1.2.0', id: box.id, bundle: box.bundle, annotations: { a: 'b' } });
      expect(`${kind} ${state.status}`).toBe(`${kind} ${statuses[kind] ?? 'creating'}`);
      if (kind !== 'poststop') expect(state.pid, kind).toBe(pid);
    }
  });

  test.each(['prestart', 'createRuntime', 'createContainer'] as const)(
    'a failing %s hook fails create with what it said, and leaves nothing',
    async (kind) => {
      const box = ociHost().container('true', (config) => {
        config.hooks = { [kind]: [{ path: '/bin/sh', args: ['sh', '-c', 'echo no luck >&2; exit 6'] }] };
      });
      const { code, stderr } = await box.call('create');
      expect(code).toBe(1);
      expect(stderr).toContain(`hooks.${kind}[0]`);
      expect(stderr).toContain('no luck');
      await box.host.expectNothingLeft();
    },
  );

  test('a failing startContainer hook fails start, and the process never runs', async () => {
    const box = ociHost().container('echo ran', (config) => {
      config.hooks = { startContainer: [{ path: '/bin/sh', args: ['sh', '-c', 'exit 6'] }] };
    });
    await box.ok('create');
    const { code, stderr } = await box.call('start');
    expect(code).toBe(1);
    expect(stderr).toContain('hooks.startContainer[0]');
    expect(box.output).toBe('');
    await box.ok('delete --force');
    await box.host.expectNothingLeft();
  });

  test('a failing poststop hook is said, and the container is deleted', async () => {
    const box = ociHost().container('true', (config) => {
      config.hooks = { poststop: [{ path: '/bin/false' }] };
    });
    await box.ok('create');
    const { code, stderr } = await box.call('delete --force');
    expect(code).toBe(0);
    expect(stderr).toContain('hooks.poststop[0]');
    await box.host.expectNothingLeft();
  });

  test('a hook that does not end in time is killed', async () => {
    const box = ociHost().container('true', (config) => {
      config.hooks = { createRuntime: [{ path: '/bin/sleep', args: ['sleep', '1000'], timeout: 1 }] };
    });
    const { code, stderr } = await box.call('create');
    expect(code).toBe(1);
    expect(stderr).toContain('timeout');
    await box.host.expectNothingLeft();
  });

  test('the namespaces are there, and the root file system is not entered yet, when createContainer hooks run', async () => {
    const box = ociHost().container('cat /from-hook', (config, { rootfs }) => {
      const script = `(echo "$(cat)"; grep -c ${rootfs} /proc/self/mountinfo) >${rootfs}/from-hook`;
      config.hooks = {
        createContainer: [{ path: '/bin/sh', args: ['sh', '-c', script], env: ['PATH=/bin:/usr/bin'] }],
      };
    });
    const [state = '', mounts = ''] = (await box.ok('run')).split('\n');
    expect((JSON.parse(state) as OciState).status).toBe('creating');
    // The mounts of config.json are below the root file system by now.
    expect(Number(mounts)).toBeGreaterThanOrEqual(3);
  });
});

describe('looking at containers', () => {
  test('list shows all of them', async () => {
    const host = ociHost();
    const [one, two] = [host.container(), host.container()];
    expect((await host.oci(['list', '--format', 'json'])).stdout).toMatch(/^(null|\[\])\n$/);
    await one.ok('create');
    await two.ok('run --detach');
    expect((await host.oci(['list', '--quiet'])).stdout).toBe(`${one.id}\n${two.id}\n`);
    const { stdout: table } = await host.oci(['list']);
    expect(table.split('\n')[0]).toMatch(/^ID +PID +STATUS +BUNDLE +CREATED +OWNER$/);
    expect(table.split('\n')[2]).toMatch(new RegExp(`^${two.id} +${await two.pid()} +running +${two.bundle} +`));
    const listed = JSON.parse((await host.oci(['list', '--format', 'json'])).stdout) as {
      id: string;
      status: string;
    }[];
    expect(listed.map(({ id, status }) => `${id} ${status}`)).toEqual([`${one.id} created`, `${two.id} running`]);
  });

  cgroups('ps shows the processes', async () => {
    const box = ociHost().container('sleep 1001 & exec sleep 1000');
    await box.ok('run --detach');
    await until('both run', async () => {
      const pids = JSON.parse(await box.ok('ps --format json')) as number[];
      return pids.length === 2 && pids.includes(await box.pid());
    });
    const [title, ...lines] = (await box.ok('ps')).trim().split('\n');
    expect(title).toMatch(/\bPID\b/);
    expect(lines).toHaveLength(2);
    expect(lines.join('\n')).toContain('sleep 1001');
    expect(await box.ok('ps', '-o', 'pid,comm')).toMatch(new RegExp(`\\b${await box.pid()} sleep\\b`));
  });

  cgroups('pause stops everything and resume lets it go on', async () => {
    const box = ociHost().container('while :; do echo tick; sleep 0.01; done');
    await box.ok('run --detach');
    await until('it ticks', () => box.output !== '');
    await box.ok('pause');
    expect((await box.state()).status).toBe('paused');
    const { code, stderr } = await box.call('exec', 'true');
    expect(code).toBe(255);
    expect(stderr).toContain('paused');
    const stood = box.output.length;
    expect((await box.call('pause')).code).not.toBe(0);
    expect(box.output.length).toBe(stood);
    await box.ok('resume');
    expect((await box.state()).status).toBe('running');
    await until('it ticks again', () => box.output.length > stood);
    await box.ok('pause');
    await box.ok('delete --force');
    await box.host.expectNothingLeft();
  });

  cgroups('events --stats prints one line', async () => {
    const box = ociHost().container();
    await box.ok('run --detach');
    const line = await box.ok('events --stats');
    expect(line.trimEnd()).not.toContain('\n');
    const event = JSON.parse(line) as {
      type: string;
      id: string;
      data: { cpu: { usage: { total: number } }; memory: { usage: { usage: number } }; pids: { current: number } };
    };
    expect(event).toMatchObject({ type: 'stats', id: box.id });
    expect(event.data.cpu.usage.total).toBeGreaterThan(0);
    expect(event.data.memory.usage.usage).toBeGreaterThan(0);
    expect(event.data.pids.current).toBe(1);
  });

  test('spec writes a bundle that runs, and does not overwrite one', async () => {
    const host = ociHost();
    const box = host.container();
    rmSync(join(box.bundle, 'config.json'));
    const flags = ['--bundle', box.bundle, ...(isRoot ? [] : ['--rootless'])];
    expect((await host.oci(['spec', ...flags])).code).toBe(0);
    const written = readFileSync(join(box.bundle, 'config.json'), 'utf8');
    const again = await host.oci(['spec', ...flags]);
    expect(again.code).toBe(1);
    expect(again.stderr).toContain('config.json');
    expect(readFileSync(join(box.bundle, 'config.json'), 'utf8')).toBe(written);
    const running = host.startOnTerminal(box.args('run'));
    running.write('id -u; touch /file; exit 3\r');
    const { code, stdout } = await running.result;
    expect(stdout).toMatch(/^0\r$/m);
    expect(stdout).toContain('Read-only file system');
    expect(code).toBe(3);
  });

  test('features and --version say what it knows', async () => {
    const host = ociHost();
    const features = JSON.parse((await host.oci(['features'])).stdout) as Record<string, unknown>;
    expect(features).toMatchObject({
      ociVersionMin: '1.0.0',
      ociVersionMax: '1.2.0',
      hooks: expect.arrayContaining([...hookKinds]),
    });
    expect(features.linux).toMatchObject({ cgroup: { v1: true, v2: true }, seccomp: { enabled: true } });
    const { stdout } = await host.oci(['--version']);
    expect(stdout).toContain(packageJson.version);
    expect(stdout).toMatch(/^spec: 1\.2\.0$/m);
  });
});

describe('limits', () => {
  const limited = (config: Draft) => {
    config.linux.resources = {
      memory: { limit: 64 << 20, reservation: 32 << 20 },
      cpu: { shares: 512, quota: 50_000, period: 100_000 },
      pids: { limit: 50 },
    };
  };
  const memory = { v1: 'memory.limit_in_bytes', v2: 'memory.max' };
  const pids = { v1: 'pids.max', v2: 'pids.max' };

  cgroups('are in the cgroup that config.json names, update changes them, and delete removes it', async () => {
    const box = ociHost().container('exec sleep 1000', (config, box) => {
      limited(config);
      config.linux.cgroupsPath = `/${box.id}-named`;
    });
    await box.ok('run --detach');
    expect(cgroupsNamed(`${box.id}-named`)).not.toEqual([]);
    expect(await box.limit('memory', memory)).toBe(String(64 << 20));
    expect(await box.limit('memory', { v1: 'memory.soft_limit_in_bytes', v2: 'memory.low' })).toBe(String(32 << 20));
    expect(await box.limit('pids', pids)).toBe('50');
    expect(await box.limit('cpu', { v1: 'cpu.cfs_quota_us', v2: 'cpu.max' })).toMatch(/^50000( 100000)?$/);
    expect(await box.limit('cpu', { v1: 'cpu.shares', v2: 'cpu.weight' })).toMatch(/^(512|20)$/);
    await box.ok('update --memory 48M --pids-limit 40 --cpu-quota 25000');
    expect(await box.limit('memory', memory)).toBe(String(48 << 20));
    expect(await box.limit('pids', pids)).toBe('40');
    expect(await box.limit('cpu', { v1: 'cpu.cfs_quota_us', v2: 'cpu.max' })).toMatch(/^25000/);
    const resources = JSON.stringify({ pids: { limit: 30 } });
    expect((await box.callWith({ input: resources }, 'update --resources -')).code).toBe(0);
    expect(await box.limit('pids', pids)).toBe('30');
    expect(await box.limit('memory', memory)).toBe(String(48 << 20));
    await box.ok('delete --force');
    expect(cgroupsNamed(box.id)).toEqual([]);
  });

  cgroups('hold: no process more than allowed, and no more memory', async () => {
    const box = ociHost().container('for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done', (config) => {
      config.linux.resources = { pids: { limit: 4 } };
    });
    const { code, stderr } = await box.call('run');
    expect(code).not.toBe(0);
    expect(stderr).toContain("can't fork");
    const eater = box.host.container('exec tail -c 200m /dev/zero', (config) => {
      config.linux.resources = { memory: { limit: 32 << 20, swap: 32 << 20 } };
    });
    expect((await eater.call('run')).code).toBe(137);
  });

  cgroups('a device opens only when a rule allows it', async (context) => {
    const tun = { type: 'c', major: 10, minor: 200 };
    if (!existsSync('/dev/net/tun')) context.skip('this host has no /dev/net/tun');
    const opens = (allow: boolean) =>
      ociHost()
        .container(': </dev/own', (config) => {
          config.linux.devices = [{ ...tun, path: '/dev/own', fileMode: 0o666 }];
          config.linux.resources = {
            devices: [{ allow: false, access: 'rwm' }, ...(allow ? [{ ...tun, allow, access: 'rw' }] : [])],
          };
        })
        .call('run');
    expect(await opens(true)).toEqual({ code: 0, stdout: '', stderr: '' });
    expect((await opens(false)).stderr).toContain("can't open /dev/own: Operation not permitted");
  });

  cgroups('an update that the kernel refuses is an error', async () => {
    const box = ociHost().container();
    await box.ok('run --detach');
    const { code, stderr } = await box.call('update --cpuset-cpus 4000');
    expect(code).toBe(1);
    expect(stderr).toContain('cpu');
  });

  test('of the process are set: rlimits, oom score, umask', async () => {
    const script = 'ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj; umask';
    const box = ociHost().container(script, ({ process }) => {
      process.rlimits = [{ type: 'RLIMIT_NOFILE', soft: 100, hard: 200 }];
      process.oomScoreAdj = 500;
      process.user = { uid: 0, gid: 0, umask: 0o27 };
    });
    expect(await box.ok('run')).toBe('100\n200\n500\n0027\n');
  });
});

describe('config.json', () => {
  test('a read-only root file system stays as it is', async () => {
    const box = ociHost().container('touch /file; echo $?; touch /tmp/file; echo $?', (config) => {
      config.root = { path: 'rootfs', readonly: true };
      config.mounts.push({ destination: '/tmp', type: 'tmpfs', source: 'tmpfs' });
    });
    const { stdout, stderr } = await box.call('run');
    expect(stdout).toBe('1\n0\n');
    expect(stderr).toContain('Read-only file system');
    expect(readdirSync(box.rootfs)).not.toContain('file');
  });

  test('names and user are those of config.json', async () => {
    const box = ociHost().container('hostname; cat /proc/sys/kernel/domainname; id -u; pwd; echo $PPID', (config) => {
      config.hostname = 'some-name';
      config.domainname = 'example.org';
      config.process.cwd = '/etc';
    });
    expect(await box.ok('run')).toBe('some-name\nexample.org\n0\n/etc\n0\n');
  });

  manyIds('an ordinary user in a container has no capabilities, and its groups', async () => {
    const box = ociHost().container('id; grep ^Cap /proc/self/status', (config) => {
      config.process.user = { uid: 1000, gid: 1000, additionalGids: [5, 6] };
    });
    const printed = await box.ok('run');
    expect(printed).toContain('uid=1000(user) gid=1000(user) groups=5,6\n');
    expect(printed).toMatch(/^CapEff:\s*0+$/m);
  });

  test('a container has new namespaces of the listed types and shares the others', async () => {
    const kinds = ['pid', 'net', 'ipc', 'uts', 'mnt', 'cgroup', 'user', 'time'];
    const box = ociHost().container(kinds.map((kind) => `readlink /proc/self/ns/${kind}`).join('; '));
    const printed = (await box.ok('run')).trim().split('\n');
    const shared = kinds.filter((kind, i) => printed[i] === readlinkSync(`/proc/self/ns/${kind}`));
    expect(shared).toEqual(isRoot ? ['cgroup', 'user', 'time'] : ['cgroup', 'time']);
  });

  foreign('joins namespaces by their paths', async () => {
    const host = ociHost();
    const holder = host.spawn([
      'unshare',
      '--net',
      '--uts',
      '--ipc',
      'sh',
      '-c',
      'hostname held; ip link set lo up; echo ready; exec sleep 1000',
    ]);
    await holder.prints(/ready/);
    const box = host.container('hostname; ip link show lo; readlink /proc/self/ns/ipc', (config) => {
      delete config.hostname;
      for (const namespace of config.linux.namespaces) {
        const file = { network: 'net', uts: 'uts', ipc: 'ipc' }[namespace.type as string];
        if (file !== undefined) namespace.path = `/proc/${holder.pid}/ns/${file}`;
      }
    });
    const printed = await box.ok('run');
    expect(printed).toContain('held\n');
    expect(printed).toMatch(/lo: <LOOPBACK,UP/);
    expect(printed).toContain(readlinkSync(`/proc/${holder.pid}/ns/ipc`));
    holder.signal('SIGKILL');
    await holder.result;
  });

  manyIds('maps the ids of a user namespace', async () => {
    const box = ociHost().container('id -u; cat /proc/self/uid_map; touch /tmp/file; exec sleep 1000', (config) => {
      config.linux.namespaces.push({ type: 'user' });
      config.linux.uidMappings = [{ containerID: 0, hostID: 300_000, size: 1000 }];
      config.linux.gidMappings = [{ containerID: 0, hostID: 400_000, size: 1000 }];
      config.mounts.push({ destination: '/tmp', type: 'tmpfs', source: 'tmpfs' });
    });
    await box.ok('run --detach');
    await until('it has spoken', () => /^0\n\s+0\s+300000\s+1000\n/.test(box.output));
    const pid = await box.pid();
    expect(statSync(`/proc/${pid}`).uid).toBe(300_000);
    expect(statSync(`/proc/${pid}/root/tmp`).gid).toBe(400_000);
  });

  test('mounts: bind, read-only, tmpfs with a size, and what is missing is made', async () => {
    const script = 'cat /data/file; touch /data/x; touch /more/deep/file; cat /one; stat -c %a /t; df -k /t | tail -1';
    const host = ociHost();
    const shared = join(host.dir, 'shared');
    mkdirSync(shared);
    writeFileSync(join(shared, 'file'), 'shared\n');
    const box = host.container(script, (config) => {
      config.mounts.push(
        { destination: '/data', type: 'bind', source: shared, options: ['rbind', 'ro'] },
        { destination: '/more/deep', type: 'bind', source: shared, options: ['bind'] },
        { destination: '/one', source: '../shared/file', options: ['bind'] },
        { destination: '/t', type: 'tmpfs', source: 'tmpfs', options: ['mode=1750', 'size=1m', 'noexec'] },
      );
    });
    const { stdout, stderr } = await box.call('run');
    expect(stdout).toMatch(/^shared\nshared\n1750\ntmpfs +1024 /);
    expect(stderr.trim()).toBe('touch: /data/x: Read-only file system');
    expect(readdirSync(shared).sort()).toEqual(['file']);
  });

  test('masked paths are empty, read-only paths cannot be written', async () => {
    const script =
      'cat /etc/secret; ls /secrets; cat /proc/kcore | head -c 1; echo x >/etc/motd; echo $?; cat /etc/motd';
    const box = ociHost().container(script, (config) => {
      config.linux.maskedPaths = ['/etc/secret', '/secrets', '/proc/kcore', '/proc/nonsense'];
      config.linux.readonlyPaths = ['/etc/motd', '/proc/nonsense'];
    });
    box.file('etc/secret', 'secret');
    box.file('etc/motd', 'hello\n');
    mkdirSync(join(box.rootfs, 'secrets'));
    box.file('secrets/one', 'secret');
    const { stdout, stderr } = await box.call('run');
    expect(stdout).toBe('1\nhello\n');
    expect(stderr).toContain('Read-only file system');
  });

  test('sysctl of the container’s own namespaces are set', async () => {
    const box = ociHost().container(
      'cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax',
      (config) => {
        config.linux.sysctl = { 'net.ipv4.ip_unprivileged_port_start': '80', 'kernel.msgmax': '9000' };
      },
    );
    expect(await box.ok('run')).toBe('80\n9000\n');
    expect(readFileSync('/proc/sys/kernel/msgmax', 'utf8')).not.toBe('9000\n');
  });

  test('a seccomp profile denies the calls that it names, with its error', async () => {
    const box = ociHost().container(
      'mkdir /tmp/x; echo $?; hostname; chmod 700 /tmp; chmod 701 /tmp; grep Seccomp: /proc/self/status',
      (config) => {
        config.linux.seccomp = {
          defaultAction: 'SCMP_ACT_ALLOW',
          architectures: ['SCMP_ARCH_X86_64'],
          syscalls: [
            { names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 95 },
            { names: ['chmod'], action: 'SCMP_ACT_ERRNO', args: [{ index: 1, value: 0o701, op: 'SCMP_CMP_EQ' }] },
          ],
        };
      },
    );
    const { stdout, stderr } = await box.call('run');
    expect(stdout).toBe('1\nbox\nSeccomp:\t2\n');
    expect(stderr).toContain("can't create directory '/tmp/x': Operation not supported");
    expect(stderr).toContain('/tmp: Operation not permitted');
    expect(statSync(join(box.rootfs, 'tmp')).mode & 0o777).toBe(0o700);
  });

  test('no new privileges and the five sets of capabilities are as config.json says', async () => {
    const box = ociHost().container('grep -E "^(Cap|NoNewPrivs)" /proc/self/status', (config) => {
      config.process.noNewPrivileges = true;
      config.process.capabilities = {
        bounding: ['CAP_CHOWN', 'CAP_KILL'],
        permitted: ['CAP_CHOWN', 'CAP_KILL'],
        effective: ['CAP_KILL'],
        inheritable: ['CAP_KILL'],
        ambient: ['CAP_KILL'],
      };
    });
    const [CAP_CHOWN, CAP_KILL] = [1, 0x20];
    const printed = await box.ok('run');
    const set = (name: string) => Number.parseInt(grep(new RegExp(`^${name}:\\s*([0-9a-f]+)$`, 'm'), printed), 16);
    expect(set('CapBnd')).toBe(CAP_CHOWN | CAP_KILL);
    expect(set('CapInh')).toBe(CAP_KILL);
    expect(set('CapAmb')).toBe(CAP_KILL);
    expect(set('NoNewPrivs')).toBe(1);
  });

  devices('devices are made with their numbers, mode and owner', async () => {
    const box = ociHost().container(
      'stat -c "%F %t %T %a %u" /dev/own /dev/deep/pipe; head -c 3 /dev/own | wc -c; ls /dev',
      (config) => {
        config.linux.devices = [
          { type: 'c', path: '/dev/own', major: 1, minor: 5, fileMode: 0o644, uid: 12, gid: 13 },
          { type: 'p', path: '/dev/deep/pipe', fileMode: 0o600 },
        ];
      },
    );
    const printed = await box.ok('run');
    expect(printed).toContain('character special file 1 5 644 12\nfifo 0 0 600 0\n3\n');
    for (const name of ['null', 'zero', 'full', 'random', 'urandom', 'tty', 'ptmx', 'stdin', 'fd'])
      expect(printed.split('\n')).toContain(name);
  });

  test('the time of a container can begin elsewhere', async (context) => {
    if (!existsSync('/proc/self/timens_offsets')) context.skip('this kernel has no time namespaces');
    const box = ociHost().container('cat /proc/uptime', (config) => {
      config.linux.namespaces.push({ type: 'time' });
      config.linux.timeOffsets = { boottime: { secs: 1_000_000 } };
    });
    expect(Number.parseFloat(await box.ok('run'))).toBeGreaterThan(1_000_000);
  });

  test('a personality is set', async () => {
    const box = ociHost().container('uname -m', (config) => {
      config.linux.personality = { domain: 'LINUX32' };
    });
    expect(await box.ok('run')).toBe('i686\n');
  });
});

describe('a bad bundle', () => {
  type Change = (config: Draft & Record<string, unknown>) => void;
  const wrong: Record<string, [Change, string]> = {
    'no process.args': [(config) => Object.assign(config.process, { args: undefined }), 'process.args'],
    'a number for a text': [(config) => Object.assign(config, { hostname: 5 }), 'hostname'],
    'a newer specification': [(config) => Object.assign(config, { ociVersion: '2.0.0' }), 'ociVersion'],
    'no version': [(config) => Object.assign(config, { ociVersion: undefined }), 'ociVersion'],
    'no root': [(config) => Object.assign(config, { root: undefined }), 'root'],
    'a root file system that is not there': [(config) => Object.assign(config, { root: { path: 'none' } }), 'root'],
    'an unknown namespace': [
      (config) => Object.assign(config.linux, { namespaces: [{ type: 'disk' }] }),
      'linux.namespaces[0].type',
    ],
    'a namespace twice': [(config) => config.linux.namespaces.push({ type: 'pid' }), 'linux.namespaces'],
    'a namespace that is not there': [
      (config) => {
        for (const namespace of config.linux.namespaces) if (namespace.type === 'network') namespace.path = '/none';
      },
      'linux.namespaces[1].path',
    ],
    'mappings that overlap': [
      (config) => {
        config.linux.namespaces = [{ type: 'user' }, { type: 'mount' }];
        config.linux.uidMappings = [
          { containerID: 0, hostID: 1000, size: 10 },
          { containerID: 5, hostID: 5000, size: 10 },
        ];
      },
      'linux.uidMappings',
    ],
    'an unknown rlimit': [
      (config) => Object.assign(config.process, { rlimits: [{ type: 'RLIMIT_FUN', soft: 1, hard: 1 }] }),
      'process.rlimits[0].type',
    ],
    'a relative working folder': [(config) => Object.assign(config.process, { cwd: 'tmp' }), 'process.cwd'],
    'a relative hook': [
      (config) => Object.assign(config, { hooks: { prestart: [{ path: 'true' }] } }),
      'hooks.prestart[0].path',
    ],
    'a sysctl of the host': [
      (config) => Object.assign(config.linux, { sysctl: { 'vm.swappiness': '1' } }),
      'vm.swappiness',
    ],
    'a sysctl of a shared namespace': [
      (config) => {
        config.linux.namespaces = config.linux.namespaces.filter(({ type }) => type !== 'network');
        config.linux.sysctl = { 'net.ipv4.ip_forward': '1' };
      },
      'net.ipv4.ip_forward',
    ],
    'an unknown seccomp action': [
      (config) => Object.assign(config.linux, { seccomp: { defaultAction: 'SCMP_ACT_FUN' } }),
      'linux.seccomp.defaultAction',
    ],
    'a hostname without a namespace for it': [
      (config) => {
        config.linux.namespaces = config.linux.namespaces.filter(({ type }) => type !== 'uts');
      },
      'hostname',
    ],
    'a mount from nowhere': [
      (config) => config.mounts.push({ destination: '/data', type: 'bind', source: '/nonsense', options: ['bind'] }),
      '/nonsense',
    ],
    'a file system that there is not': [
      (config) => config.mounts.push({ destination: '/data', type: 'funfs', source: 'x' }),
      'funfs',
    ],
    'a memory limit as a text': [
      (config) => Object.assign(config.linux, { resources: { memory: { limit: '1G' } } }),
      'linux.resources.memory.limit',
    ],
  };

  test.each(Object.entries(wrong))('with %s is one error, and leaves nothing', async (_, [change, path]) => {
    const box = ociHost().container('true', (config) => void change(config as Draft & Record<string, unknown>));
    for (const command of ['create', 'run']) {
      const { code, stdout, stderr } = await box.call(command);
      expect(code, command).toBe(1);
      expect(stderr).toContain(path);
      expect(stderr.trim().split('\n')).toHaveLength(1);
      expect(stdout).toBe('');
      await box.host.expectNothingLeft();
    }
  });

  test('all mistakes are said at once, each with its place', async () => {
    const box = ociHost().container('true', (config) => {
      Object.assign(config.process, { cwd: 'tmp', args: [] });
      Object.assign(config.linux, { namespaces: [{ type: 'disk' }] });
    });
    const { stderr } = await box.call('run');
    for (const path of ['process.cwd', 'process.args', 'linux.namespaces[0].type']) expect(stderr).toContain(path);
  });

  test.each([
    ['is missing', undefined],
    ['is no JSON', '{"ociVersion": '],
    ['is a list', '[]'],
    ['is empty', ''],
  ])('whose config.json %s is one error, and leaves nothing', async (_, text) => {
    const box = ociHost().container();
    if (text === undefined) rmSync(join(box.bundle, 'config.json'));
    else box.write(text);
    const { code, stderr } = await box.call('run');
    expect(code).toBe(1);
    expect(stderr).toContain('config.json');
    expect(stderr.trim().split('\n')).toHaveLength(1);
    await box.host.expectNothingLeft();
  });

  test('that is not there is one error', async () => {
    const host = ociHost();
    const { code, stderr } = await host.oci(['run', '--bundle', join(host.dir, 'none'), 'id']);
    expect(code).toBe(1);
    expect(stderr).toContain(join(host.dir, 'none'));
    await host.expectNothingLeft();
  });

  test.each(['../x', '.x', 'a/b', '', 'a b'])('an id such as "%s" is refused', async (id) => {
    const host = ociHost();
    const box = host.container();
    for (const args of [
      ['run', '--bundle', box.bundle, id],
      ['state', id],
      ['delete', '--force', id],
    ])
      expect((await host.oci(args)).code, args[0]).not.toBe(0);
    await host.expectNothingLeft();
  });

  test('unknown keys are passed over', async () => {
    const box = ociHost().container('echo fine', (config) => {
      Object.assign(config, { vm: { hypervisor: {} }, 'x-own': 1 });
      Object.assign(config.process, { 'x-own': 1 });
    });
    expect(await box.ok('run')).toBe('fine\n');
  });

  cgroups('a resource that cannot be set leaves nothing', async () => {
    const box = ociHost().container('true', (config) => {
      config.linux.resources = { cpu: { cpus: '4000' } };
    });
    const { code, stderr } = await box.call('run');
    expect(code).toBe(1);
    expect(stderr).toContain('linux.resources.cpu.cpus');
    await box.host.expectNothingLeft();
    expect(cgroupsNamed(box.id)).toEqual([]);
  });

  test('systemd’s cgroups are refused with a reason', async () => {
    const box = ociHost().container('true');
    const { code, stderr } = await box.host.oci(['--systemd-cgroup', ...box.args('run')]);
    expect(code).toBe(1);
    expect(stderr).toContain('systemd');
    await box.host.expectNothingLeft();
  });
});

describe('a runtime that is killed while it creates', () => {
  test('leaves what delete --force removes', async () => {
    const box = ociHost().container('true', (config) => {
      config.hooks = { createRuntime: [{ path: '/bin/sh', args: ['sh', '-c', 'echo waiting >&2; exec sleep 1000'] }] };
    });
    const creating = box.host.start(box.args('create'));
    const hook = await until('the hook runs', () =>
      [...listProcesses().values()].find(({ parent, command }) => parent === creating.pid && command === 'sleep 1000'),
    );
    expect((await box.state()).status).toBe('creating');
    creating.signal('SIGKILL');
    process.kill(hook.pid, 'SIGKILL'); // it is nobody's now
    await box.ok('delete --force');
    await box.host.expectNothingLeft();
  });
});

describe('the log', () => {
  test('is a line of JSON for an error, in the file and on standard error', async () => {
    const host = ociHost();
    const log = join(host.dir, 'log');
    const { code, stderr } = await host.oci(['--log', log, '--log-format', 'json', 'state', 'nobody']);
    expect(code).toBe(1);
    expect(stderr).toBe('container does not exist: nobody\n');
    const lines = readFileSync(log, 'utf8').trim().split('\n');
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
      { level: 'error', msg: 'container does not exist: nobody', time: expect.stringMatching(/^\d{4}-/) },
    ]);
    const without = await host.oci(['--log-format', 'json', 'state', 'nobody']);
    expect(JSON.parse(without.stderr)).toMatchObject({ level: 'error', msg: 'container does not exist: nobody' });
  });

  test('a mistake in the command line is an error that says so', async () => {
    const host = ociHost();
    for (const [args, said] of [
      [['nonsense'], 'nonsense'],
      [['state'], 'argument'],
      [['state', '--fun', 'x'], '-fun'],
      [['--log-format', 'xml', 'list'], 'log-format'],
    ] as const) {
      const { code, stderr } = await host.oci(args);
      expect(code, args.join(' ')).not.toBe(0);
      expect(stderr).toContain(said);
    }
  });
});
