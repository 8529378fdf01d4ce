import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ociHost, useRootfs } from '../../support/bundle.ts';
import { listProcesses, readProcess } from '../../support/host-processes.ts';
import { rootTest } from '../../support/root.ts';
import { until } from '../../support/until.ts';

useRootfs();

const cgroups = rootTest('a user may make no cgroups here');

describe('the lifecycle of a container', () => {
  test('is create, start, kill and delete, and the state says where it is', async () => {
    const box = ociHost().container('echo started; exec sleep 1000', (config) => {
      config.ociVersion = '1.0.2-dev';
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
      owner: '',
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

  cgroups(
    'delete --force tells of a process that another cgroup freezes, and works when it is let go',
    async (context) => {
      const freezer = '/sys/fs/cgroup/freezer';
      if (!existsSync(join(freezer, 'cgroup.procs'))) context.skip('needs the freezer of cgroup v1');
      const box = ociHost().container();
      await box.ok('run --detach');
      const pid = await box.pid();
      const foreign = join(freezer, `${box.host.mark}-foreign`);
      mkdirSync(foreign);
      try {
        writeFileSync(join(foreign, 'cgroup.procs'), String(pid));
        writeFileSync(join(foreign, 'freezer.state'), 'FROZEN');
        const { code, stderr } = await box.call('delete --force');
        expect(code).toBe(1);
        expect(stderr).toContain(`its process ${pid} was killed and is still there`);
        expect(await box.pid()).toBe(pid);
      } finally {
        writeFileSync(join(foreign, 'freezer.state'), 'THAWED');
      }
      await box.ok('delete --force');
      rmdirSync(foreign);
      await box.host.expectNothingLeft();
    },
  );

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

  test('hands sockets on that systemd has opened for it, and further descriptors behind them', async () => {
    const script = 'for fd in /proc/self/fd/[3-9]; do readlink $fd; done; env | grep ^LISTEN | sort';
    const box = ociHost().container(script, ({ process }) => {
      process.env = [...(process.env ?? []), 'LISTEN_FDS=7', 'LISTEN_FDNAMES=own'];
    });
    const files = ['/etc/passwd', '/etc/group', '/etc/hosts'];
    const activated = (variables: string, line: string) => {
      const opened = files.map((file, i) => `${3 + i}<${file}`).join(' ');
      const argv = ['sh', '-c', `export ${variables}; exec ${opened} "$@"`, 'sh', ...box.host.argv(box.args(line))];
      return box.host.spawn(argv, { input: '' }).result;
    };
    const own = 'LISTEN_FDNAMES=own\n';
    const told = `${own}LISTEN_FDS=2\nLISTEN_PID=1\n`;
    const [one, two, three] = files.map((file) => `${file}\n`);
    const printed = async (variables: string, line: string) => (await activated(variables, line)).stdout;
    expect(await printed('LISTEN_FDS=2 LISTEN_PID=$$', 'run')).toBe(`${one}${two}${told}`);
    expect(await printed('LISTEN_FDS=2 LISTEN_PID=$$', 'run --preserve-fds 1')).toBe(`${one}${two}${three}${told}`);
    expect(await printed('LISTEN_FDS=2 LISTEN_PID=1', 'run'), 'meant for another').toBe(`${own}LISTEN_FDS=7\n`);
    const { code, stderr } = await activated('LISTEN_FDS=4 LISTEN_PID=$$', 'run');
    expect(code).toBe(1);
    expect(stderr).toContain('LISTEN_FDS=4: descriptor 6 is not open');
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
