import { mkdirSync, readdirSync, readFileSync, readlinkSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { cgroupsNamed, consoleSocket, type Draft, ociHost, useRootfs } from '../../support/bundle.ts';
import { rootTest } from '../../support/root.ts';

useRootfs();

const manyIds = rootTest('a user can map one id alone without help');

const grep = (pattern: RegExp, text: string): string => pattern.exec(text)?.[1] ?? `nothing like ${pattern} in ${text}`;

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
    expect(await box.ok('exec', 'sh', '-c', 'echo $HOME')).toBe('/root\n');
    expect(await box.ok('exec --user 1000', 'sh', '-c', 'echo $HOME')).toBe('/tmp\n');
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

describe('exec --cgroup', () => {
  const cgroups = rootTest('a user may make no cgroups here');
  /** A container in one cgroup with a name, and that cgroup in each hierarchy. */
  const running = async () => {
    const box = ociHost().container('exec sleep 1000', (config, box) => {
      config.linux.cgroupsPath = `/${box.id}`;
    });
    await box.ok('run --detach');
    const folders = cgroupsNamed(box.id);
    const makeBelow = (name: string) => {
      for (const folder of folders) {
        mkdirSync(join(folder, name));
        for (const file of readdirSync(folder).filter((name) => /^cpuset\.(cpus|mems)$/.test(name)))
          writeFileSync(join(folder, name, file), readFileSync(join(folder, file), 'utf8'));
      }
    };
    const where = async (...flags: readonly string[]) =>
      (await box.ok(['exec', ...flags].join(' '), 'cat', '/proc/self/cgroup')).trim().split('\n').sort();
    return { box, folders, makeBelow, where };
  };

  cgroups('runs in a cgroup below that of the container, and delete removes it', async () => {
    const { box, makeBelow, where } = await running();
    makeBelow('below');
    const own = await where();
    expect(own.every((line) => line.endsWith(`/${box.id}`))).toBe(true);
    const below = own.map((line) => `${line}/below`);
    for (const path of ['below', '/below/', 'x/../below']) expect(await where('--cgroup', path), path).toEqual(below);
    for (const path of ['/', '.']) expect(await where('--cgroup', path), path).toEqual(own);
    await box.ok('delete --force');
    expect(cgroupsNamed(box.id)).toEqual([]);
  });

  cgroups('with controllers it moves the process in their hierarchies only', async (context) => {
    const { box, makeBelow, where } = await running();
    const v1 = (await where()).flatMap((line) => line.split(':').slice(1, 2)).filter((name) => name !== '');
    if (v1.length < 3) context.skip('this host has no cgroup v1');
    makeBelow('below');
    const [one = '', two = '', three = ''] = v1;
    const moved = await where('--cgroup', `${one},${two}:below`, '--cgroup', `${three}:/below`);
    const isMoved = (line: string) => [one, two, three].includes(line.split(':')[1] ?? '');
    expect(moved.filter((line) => line.endsWith(`${box.id}/below`)).length).toBe(3);
    expect(moved.every((line) => line.endsWith('/below') === isMoved(line))).toBe(true);
  });

  cgroups('refuses a cgroup that is not there, or not the container’s', async () => {
    const { box, folders } = await running();
    onTestFinished(() => {
      for (const folder of folders) rmdirSync(`${folder}-beside`);
    });
    for (const folder of folders) mkdirSync(`${folder}-beside`);
    for (const [path, why] of [
      ['below', 'is not there'],
      ['..', 'lies outside'],
      [`../${box.id}-beside`, 'lies outside'],
      ['below/../../..', 'lies outside'],
    ] as const) {
      const { code, stdout, stderr } = await box.call(`exec --cgroup ${path}`, 'echo', 'ran');
      expect({ code, stdout }, path).toEqual({ code: 255, stdout: '' });
      expect(stderr).toContain(why);
    }
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

  test('that the process has left before its end kills it not', async () => {
    const box = ociHost().container('echo ready; exec 0<&- 1>&- 2>&-; sleep 0.2; exit 5', terminal);
    expect((await box.host.startOnTerminal(box.args('run')).result).code).toBe(5);
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
