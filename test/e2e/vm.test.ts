import { lstatSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Timings } from '../../src/model/timings.ts';
import { printAction } from '../../src/plan/print.ts';
import { get, killNow, type Result, type Running, start, tsvProgram } from '../support/cli.ts';
import { freePort, sharedFixture } from '../support/fixture.ts';
import { until } from '../support/until.ts';

const tsfile = `
version: 1
project: mixed
networks:
  default: { mode: nat }
  backend: { mode: isolated, subnet: 10.99.9.0/24 }
machines:
  vm:
    box: debian-12
    warm: false # one that booted has all of its memory for itself, and can give it back
    memory: 384M
    disks: [{ name: data, size: 16M }]
    networks: [default, { name: backend, address: 10.99.9.10 }]
    forwards: ["\${PORT}:8000"]
    healthcheck: { http: { port: 8000 }, every: 500ms }
    provision:
      - { name: disk, shell: { inline: "systemctl is-active sysinit.target && mkfs.ext4 -q /dev/disk/by-id/virtio-data && mount /dev/disk/by-id/virtio-data /mnt && echo kept >/mnt/kept && umount /mnt" } }
      - { file: { source: conf/server, destination: /usr/local/bin/server, mode: "0755" } }
      - { name: serve, shell: { inline: "systemctl is-active -q server || systemd-run --unit server /usr/local/bin/server" }, run: always }
  box: { image: debian-12, memory: 64M, networks: [backend] }
`;

const server = `#!/usr/bin/perl
use IO::Socket::INET;
my $listener = IO::Socket::INET->new(LocalPort => 8000, Listen => 4, ReuseAddr => 1) or die $!;
while (my $client = $listener->accept) { while (<$client>) { last if /^\\r?$/ } print $client "HTTP/1.0 200 OK\\r\\n\\r\\nfrom the vm"; close $client }
`;

const isRefused = (error: Error): boolean =>
  (error.cause as NodeJS.ErrnoException | undefined)?.code === 'ECONNREFUSED';

describe('a virtual machine beside a container', () => {
  let port = 0;
  const project = sharedFixture(
    'a virtual machine beside a container',
    { 'Tsfile.yaml': tsfile, 'conf/server': server },
    {
      env: async () => {
        port = await freePort();
        return { PORT: String(port) };
      },
      prepare: async (made) => {
        up = await made.ok('up --timings --json', { timeoutMs: 240_000 });
      },
    },
  );
  let up: Result | undefined;

  test('comes up with the time of each part of its boot told, where that is asked for', () => {
    const timings = JSON.parse(up?.stdout.trimEnd().split('\n').at(-2) ?? '') as Timings;
    const boot = timings.phases.find((phase) => 'action' in phase && printAction(phase.action) === 'machine.wait vm');
    // The box's kernel is quiet: it need not have printed anything by then.
    const parts = boot?.parts.map(({ what }) => what).filter((what) => what !== 'kernel prints');
    expect(parts).toEqual(['port 22 answers', 'login works', 'disks have their names']);
    const sum = boot?.parts.reduce((all, { ms }) => all + ms, 0) ?? 0;
    expect(sum).toBeGreaterThan(0);
    expect(sum).toBeLessThanOrEqual((boot?.ms ?? 0) + 3); // each is rounded
    // The other machine was there long before, and nothing waits for it.
    expect(boot?.critical).toBe(true);
    expect(timings.phases).toContainEqual(
      expect.objectContaining({ action: { do: 'machine.start', machine: 'box' }, critical: false }),
    );
  });

  test('runs, and status says on what acceleration', async () => {
    const { machines } = await project().status();
    expect(machines.map(({ machine, kind, state }) => `${machine} ${kind} ${state}`)).toEqual([
      'vm vm running',
      'box container running',
    ]);
    expect(machines[0]?.accel).toMatch(/^(kvm|tcg)$/);
    expect((await project().ok('up')).code).toBe(0);
  });

  test('is asked for its health by a request and, when the Tsfile wants that, by a program in it', async () => {
    const health = async () => (await project().status()).machines[0]?.health;
    expect(await health()).toMatchObject({ status: 'healthy' });
    const check = (text: string) => project().edit((all) => all.replace(/healthcheck: .*/, `healthcheck: ${text}`));
    check('{ exec: "echo not yet; exit 3", every: 500ms, retries: 2 }');
    expect((await project().tsv('up')).stderr).toContain('vm is not healthy');
    expect(await health()).toMatchObject({ status: 'unhealthy', reason: 'exit code 3\nnot yet' });
    check('{ exec: [test, -x, /usr/local/bin/server], timeout: 20s }');
    await project().ok('up');
    expect(await health()).toMatchObject({ status: 'healthy' });
  });

  test('runs commands with their exit codes, output and input', async () => {
    expect(
      await project().tsv(['exec', 'vm', '--', 'sh', '-c', 'cat; echo oops >&2; exit 42'], { input: 'in' }),
    ).toEqual({ code: 42, stdout: 'in', stderr: 'oops\n' });
    expect((await project().ok('exec vm -- hostname')).stdout).toBe('vm\n');
    expect((await project().tsv('exec vm -- no-such-command')).code).toBe(127);
    expect((await project().tsv(['ssh', 'vm', '-c', 'test -b /dev/disk/by-id/virtio-data && exit 6'])).code).toBe(6);
  });

  test('gives a shell on a terminal', async () => {
    const shell = project().startOnTerminal('ssh vm');
    shell.write('tty; exit 5\n');
    const { code, stdout } = await shell.result;
    expect(stdout).toMatch(/\/dev\/pts\/\d/);
    expect(code).toBe(5);
  });

  test('and the container know each other by name, on a network without a way out', async () => {
    expect((await project().ok('exec vm -- getent ahostsv4 box')).stdout).toMatch(/^10\.99\.9\./);
    expect((await project().ok('exec box -- curl -sf --max-time 20 http://vm:8000/')).stdout).toBe('from the vm');
  });

  test('stands still while it is paused, and takes no signal but KILL', async () => {
    const pid = project().machinePid('vm');
    await project().ok('pause vm');
    expect((await project().states()).vm).toBe('paused');
    const refused = await project().tsv('exec vm -- true');
    expect(refused.stderr).toMatch(/vm is paused[\s\S]*tsv unpause vm/);
    await project().ok('unpause vm');
    expect((await project().ok('exec vm -- hostname')).stdout).toBe('vm\n');
    const signalled = await project().tsv('kill -s HUP vm');
    expect(signalled.stderr).toMatch(/vm is a virtual machine: it can be killed, and takes no other signal/);
    expect(signalled.code).toBe(1);
    expect(project().machinePid('vm')).toBe(pid);
  });

  const areAttached = (...all: Running[]): Promise<unknown> =>
    until('they are attached', async () => {
      await project().ok(['exec', 'vm', '--', 'sh', '-c', 'echo is anybody there >/dev/ttyS0']);
      return all.every((attached) => attached.output().stdout.includes('is anybody there'));
    });

  test('has a console for several at once: keys go to it, but for those that leave it and the terminal as it was', async () => {
    const tsv = `'${process.execPath}' '${tsvProgram}'`;
    const line = `${tsv} attach --detach-keys ctrl-x,d vm; echo code $?; stty -a`;
    const typing = start(project().dir, ['script', '-qec', line, '/dev/null'], { env: project().env });
    const other = project().start('attach vm');
    await typing.prints(/Attached to the console of vm/);
    await areAttached(typing, other);
    const read = 'systemctl stop serial-getty@ttyS0; exec 3<>/dev/ttyS0; stty sane <&3; echo go on >&3; head -n 1 <&3';
    const reader = project().start(['exec', 'vm', '--', 'sh', '-c', read], { input: '' });
    await Promise.all([typing.prints(/go on\r/), other.prints(/go on\r/)]);
    typing.write('typed ');
    await other.prints(/typed /);
    other.write('by two\r');
    await other.prints(/typed by two\r/);
    expect((await reader.result).stdout).toBe('typed by two\n');
    typing.write('\x18d');
    const { stdout } = await typing.result;
    expect(stdout).toMatch(/Detached\.\r\ncode 0\r\n[\s\S]* icanon/);
    other.signal('SIGTERM');
    expect((await other.result).code).toBe(143);
    expect((await project().states()).vm).toBe('running');
  });

  test('is copied to and from by its own tar, each file whole', async () => {
    const inside = async (line: string): Promise<string> =>
      (await project().ok(['exec', 'vm', '--', 'sh', '-c', line])).stdout;
    project().write('tree/deep/ü 1', 'one');
    project().write('tree/page', 'page');
    await project().ok('cp -q tree vm:/srv');
    await project().ok('cp -q tree/. vm:/srv/tree');
    await project().ok('cp -q tree/page vm:/srv/other');
    expect(await inside('cd /srv; find . | sort; stat -c %u:%g tree/page; cat "tree/deep/ü 1"')).toBe(
      '.\n./other\n./tree\n./tree/deep\n./tree/deep/ü 1\n./tree/page\n0:0\none',
    );
    await inside('chown 7:8 /srv/tree/page; ln -s tree /srv/link; truncate -s 10M /srv/tree/sparse');
    await project().ok('cp -q vm:/srv/tree back');
    expect(readFileSync(join(project().dir, 'back/deep/ü 1'), 'utf8')).toBe('one');
    expect(statSync(join(project().dir, 'back/sparse'))).toMatchObject({ size: 10 * 2 ** 20, blocks: 0 });
    expect(lstatSync(join(project().dir, 'back/page')).uid).toBe(process.getuid?.());
    await project().ok('cp -aq vm:/srv box:/from-vm');
    expect((await project().ok('exec box -- stat -c %u:%g:%N /from-vm/tree/page /from-vm/link')).stdout).toBe(
      "7:8:'/from-vm/tree/page'\n0:0:'/from-vm/link' -> 'tree'\n",
    );
    for (const [command, why] of [
      ['cp vm:/nothing .', /vm:\/nothing: no such file or folder/],
      ['cp tree vm:/srv/other', /vm:\/srv\/other: a folder cannot be copied onto a file/],
      ['cp tree vm:/no/parent', /vm:\/no\/parent: the folder \/no does not exist/],
      ['cp tree/page vm:/srv/none/', /vm:\/srv\/none: no such folder/],
    ] as const)
      expect((await project().tsv(command)).stderr).toMatch(why);
    project().write('big', 'x'.repeat(100_000));
    const line = 'tar -c big | head -c 50000 | "$0" "$1" cp - vm:/srv';
    expect((await project().run(['sh', '-c', line, process.execPath, tsvProgram])).code).toBe(1);
    expect(await inside('ls -A /srv')).toBe('link\nother\ntree\n');
  });

  test('is reached through its forwarded port', async () => {
    expect(await get(port)).toBe('from the vm');
  });

  test('is reached by the real ssh, scp and rsync', async () => {
    const { dir } = project();
    writeFileSync(join(dir, 'ssh.conf'), (await project().ok('ssh-config vm')).stdout);
    writeFileSync(join(dir, 'out.txt'), 'copied\n'.repeat(10_000));
    for (const argv of [
      ['scp', '-F', 'ssh.conf', 'out.txt', 'vm:/tmp/scp.txt'],
      ['rsync', '-a', '-e', 'ssh -F ssh.conf', 'vm:/tmp/scp.txt', 'back.txt'],
    ]) {
      const { code, stderr } = await project().run(argv);
      expect(code, stderr).toBe(0);
    }
    expect(readFileSync(join(dir, 'back.txt'), 'utf8')).toBe('copied\n'.repeat(10_000));
    const { code, stdout } = await project().run(['ssh', '-F', 'ssh.conf', 'vm', 'hostname; exit 9']);
    expect({ code, stdout }).toEqual({ code: 9, stdout: 'vm\n' });
  });

  test('shows its console, each line with the time at which it was printed', async () => {
    const { stdout, stderr } = await project().ok('logs --timestamps vm');
    const times = [...stdout.matchAll(/^(\d{4}-\d\d-\d\dT[\d:.]{18}Z) /gm)].map(([, time = '']) => Date.parse(time));
    expect(times.length).toBe(stdout.split('\n').length - (stdout.endsWith('\n') ? 1 : 0));
    expect(times).toEqual(times.toSorted((a, b) => a - b));
    expect(times[0]).toBeGreaterThanOrEqual(Date.parse(project().state()?.machines.vm?.createdAt ?? ''));
    expect(times.at(-1)).toBeLessThanOrEqual(Date.now());
    expect(stderr).toBe('');
    const first = (await project().ok('logs vm')).stdout.split('\n')[0];
    expect((await project().ok('logs --since 1h vm')).stdout.split('\n')[0]).toBe(first);
  });

  test('is looked at like a container', async () => {
    const values = async (args: string) => JSON.parse((await project().ok(args)).stdout) as Record<string, unknown>[];
    const [vm] = await values('inspect vm');
    expect(vm).toMatchObject({
      kind: 'vm',
      state: 'running',
      disks: [{ name: 'data', sizeBytes: 16 << 20 }],
      networks: { backend: { address: '10.99.9.10', subnet: '10.99.9.0/24', mode: 'isolated' } },
      limits: { memoryBytes: 384 << 20, cpus: 1 },
    });
    const lines = (await project().ok('stats vm box --no-stream --json')).stdout.trimEnd().split('\n');
    const [usage, other] = lines.map((line) => JSON.parse(line) as Record<string, Record<string, unknown>>);
    expect(usage).toMatchObject({ machine: 'vm', source: { cpu: 'qemu', memory: 'qemu', disk: 'qemu' } });
    expect(other).toMatchObject({ machine: 'box' });
    // It was reached over SSH, and has read its disk.
    expect(usage?.network?.receivedBytes).toBeGreaterThan(1000);
    expect(usage?.network?.sentBytes).toBeGreaterThan(1000);
    expect(usage?.memoryBytes).toBeGreaterThan(32 << 20);
    const [init] = await values('top vm --json');
    expect(init).toMatchObject({ pid: 1, user: 'root', command: expect.stringMatching(/init|systemd/) });
  });

  test('gets CPUs and gives memory back as it runs; more memory than it began with is another start', async () => {
    const pid = project().machinePid('vm');
    const inside = async (line: string): Promise<number> =>
      Number((await project().ok(['exec', 'vm', '--', 'sh', '-c', line])).stdout);
    const available = 'sed -n "s/^MemAvailable: *//p" /proc/meminfo | cut -d" " -f1';
    const before = await inside(available);
    project().edit((text) => text.replace('memory: 384M', 'memory: 385M'));
    expect((await project().tsv('plan')).stdout).toMatch(
      /~ vm +stop, start .*memory changed: it was started with 384M/,
    );
    const cpus = Math.min(2, availableParallelism());
    project().edit((text) => text.replace('memory: 385M', `memory: 256M\n    cpus: ${cpus}`));
    expect((await project().tsv('plan')).stdout).toMatch(/~ vm +adjust .*memory(, cpus)? changed \(live\)/);
    expect((await project().ok('up', { timeoutMs: 90_000 })).stderr).not.toContain('still has');
    expect(project().machinePid('vm')).toBe(pid);
    expect(await inside('nproc')).toBe(cpus);
    expect(before - (await inside(available))).toBeGreaterThan(64 << 10);
    expect((await project().tsv('plan')).stdout).not.toMatch(/adjust|stop/);
    const { stdout } = await project().ok('inspect vm --format .limits');
    expect(JSON.parse(stdout)).toEqual({ memoryBytes: 256 << 20, cpus });
    project().edit((text) => text.replace('memory: 256M', 'memory: 384M'));
    await project().ok('up', { timeoutMs: 90_000 });
    expect(before - (await inside(available))).toBeLessThan(64 << 10);
  });

  test('survives the death of the agent', async () => {
    const before = project().machinePid('vm');
    await killNow(project().agentPid() ?? 0);
    expect((await project().states()).vm).toBe('running');
    expect((await project().ok('exec vm -- hostname')).stdout).toBe('vm\n');
    expect(project().machinePid('vm')).toBe(before);
  });

  test('S42 whose console is written to without end fills no disk, whichever agent keeps the log', async () => {
    const log = join(project().dir, '.ts-vm/machines/vm/console.log');
    const bound = 16 << 20;
    await killNow(project().agentPid() ?? 0);
    truncateSync(log, bound - 1000); // as if it had been written to for long
    const flood = 'stty -opost -F /dev/ttyS0; yes without end | head -c 50000 >/dev/ttyS0; echo over >/dev/ttyS0';
    await project().ok(['exec', 'vm', '--', 'sh', '-c', flood]);
    await until('all of it is there', () => /over\s*$/.test(readFileSync(log, 'latin1')));
    expect(statSync(log).size).toBeLessThan(60_000);
    expect(statSync(`${log}.1`).size).toBe(bound);
  });

  test('gave who logged in the CPU first only while its system started', async () => {
    const weights = 'cat /sys/fs/cgroup/system.slice/cpu.weight /sys/fs/cgroup/system.slice/ssh.service/cpu.weight';
    const wait = 'systemctl is-system-running --wait >/dev/null; systemctl start tsv-started';
    const { stdout } = await project().ok(['exec', 'vm', '--', 'sh', '-c', `${wait}; ${weights}`], {
      timeoutMs: 90_000,
    });
    expect(stdout).toBe('100\n100\n');
  });

  test('F17 is told as ended as soon as QEMU is killed, and up boots it with the same disks, keys, ports and address', async () => {
    await project().ok(['exec', 'vm', '--', 'sh', '-c', 'mkdir /tmp/left; touch /tmp/left/a /tmp/.left; sync']);
    await killNow(project().machinePid('vm'));
    expect((await project().states()).vm).toMatch(/^stopped/);
    await until('nobody listens on its port', () => get(port).then(() => false, isRefused));
    // Its keeper writes that down a moment later.
    await until('how it ended is known', async () => (await project().states()).vm === 'stopped (killed by SIGKILL)');
    expect((await project().states()).box).toBe('running');
    await project().ok('up', { timeoutMs: 180_000 });
    const { stdout } = await project().ok([
      'exec',
      'vm',
      '--',
      'sh',
      '-c',
      'mount /dev/disk/by-id/virtio-data /mnt && cat /mnt/kept; umount /mnt; ip -4 -o addr show eth1',
    ]);
    expect(stdout).toMatch(/^kept\n.*10\.99\.9\.10\//);
    expect((await project().ok('exec vm -- find /tmp -name *left')).stdout, '/tmp is emptied').toBe('');
    expect((await project().run(['ssh', '-F', 'ssh.conf', 'vm', 'true'])).code).toBe(0);
    expect(await get(port)).toBe('from the vm');
  });

  test('powers off at halt', async () => {
    const attached = project().start('attach vm', { input: '' });
    await areAttached(attached);
    await project().ok('halt vm', { timeoutMs: 90_000 });
    expect(await attached.result).toMatchObject({ code: 0, stdout: expect.stringMatching(/power/i), stderr: '' });
    expect((await project().states()).vm).toBe('stopped');
    expect((await project().ok('logs vm')).stdout).toMatch(/Power down|power off|reboot: Power/i);
  });

  test('F19 whose kernel panics is ended, and up, status and events say so with its words', async () => {
    await project().ok('halt --force vm');
    // Its root file system has lost its first megabyte.
    const disk = join(project().dir, '.ts-vm/machines/vm/disk.qcow2');
    expect((await project().run(['qemu-io', '-f', 'qcow2', '-c', 'write -z 0 1M', disk])).code).toBe(0);
    const { code, stderr } = await project().tsv('up vm', { timeoutMs: 90_000 });
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /vm: its kernel panicked: Attempted to kill init![\s\S]*Kernel panic - not syncing: Attempted/,
    );
    const ended = /its kernel panicked: Attempted to kill init!/;
    await until('how it ended is known', async () => ended.test((await project().states()).vm ?? ''));
    expect((await project().ok('events vm')).stdout).toMatch(ended);
  });

  test('F18 that hangs is given up after its boot_timeout, which up says, and destroy --force removes it', async () => {
    project().edit((text) => text.replace('    memory: 384M', '    memory: 384M\n    boot_timeout: 2s'));
    await project().ok('halt --force vm');
    await project().ok('up vm --no-wait');
    process.kill(project().machinePid('vm'), 'SIGSTOP');
    const { code, stderr } = await project().tsv('up vm', { timeoutMs: 60_000 });
    expect(code).toBe(1);
    expect(stderr).toMatch(/vm is not ready after 2\.\d s: not met is "QEMU runs" \(1 of 5\)/);
    await project().ok('destroy --force vm', { timeoutMs: 60_000 });
    expect(await project().states()).toEqual({ vm: 'not created', box: 'running' });
  });
});
