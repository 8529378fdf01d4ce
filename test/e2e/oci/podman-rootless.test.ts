import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { image } from '../../support/dockerd.ts';
import { useRootlessPodman } from '../../support/podman.ts';
import { until } from '../../support/until.ts';

/* Podman of an ordinary user, who has a range of ids and no cgroups. */

const podman = useRootlessPodman();

/** Runs a line of shell in a container that goes with it. */
const sh = (line: string, ...flags: string[]) =>
  podman().ok('run', '--rm', '--network', 'none', ...flags, image, 'sh', '-c', line);
const inspect = async (name: string, what: string) =>
  (await podman().ok('inspect', '--format', `{{${what}}}`, name)).trim();

test('run passes input, outputs and the exit code through, and its root is the user', async () => {
  const script = 'cat; echo problem >&2; exit 7';
  const run = ['run', '--rm', '--network', 'none', '--interactive', image, 'sh', '-c', script];
  expect(await podman().call(run, { input: 'through\n' })).toEqual({
    code: 7,
    stdout: 'through\n',
    stderr: 'problem\n',
  });
  expect(await sh('cat /proc/self/uid_map')).toMatch(/^\s+0\s+64321\s+1\n\s+1\s+1700000000\s+65536\n$/);
});

test('a command that there is not ends with 127, one that cannot be executed with 126', async () => {
  for (const [command, code] of [
    ['nonsense', 127],
    ['/etc/passwd', 126],
  ] as const) {
    const failed = await podman().call(['run', '--rm', '--network', 'none', image, command]);
    expect(failed.code).toBe(code);
    expect(failed.stderr).toContain(command);
  }
});

test('a container in the background: exec, logs, top, stop, start, kill, rm', async () => {
  const name = 'background';
  const trapping = 'trap "echo bye; exit 3" TERM; echo up; while :; do sleep 0.05; done';
  await podman().ok('run', '--detach', '--network', 'none', '--name', name, image, 'sh', '-c', trapping);
  await until('it is up', async () => (await podman().ok('logs', name)) === 'up\n');
  expect(await podman().ok('exec', '--user', '1000:1000', '--workdir', '/tmp', name, 'sh', '-c', 'id -u; pwd')).toBe(
    '1000\n/tmp\n',
  );
  expect((await podman().call(['exec', name, 'sh', '-c', 'exit 9'])).code).toBe(9);
  expect((await podman().call(['exec', name, 'nonsense'])).code).toBe(127);
  expect((await podman().call(['exec', '--interactive', name, 'cat'], { input: 'typed\n' })).stdout).toBe('typed\n');
  expect(await podman().ok('top', name)).toContain('trap');
  await podman().ok('stop', '--time', '20', name);
  expect(await inspect(name, '.State.Status')).toBe('exited');
  expect(await inspect(name, '.State.ExitCode')).toBe('3');
  expect(await podman().ok('logs', name)).toBe('up\nbye\n');
  await podman().ok('start', name);
  expect(await inspect(name, '.State.Running')).toBe('true');
  await podman().ok('kill', name);
  expect(await podman().ok('wait', name)).toBe('137\n');
  await podman().ok('rm', name);
  expect(await podman().ok('ps', '--all', '--quiet')).toBe('');
});

test('run and exec have a terminal with keys', async () => {
  const line = ['sh', '-c', 'test -t 0 && echo ready; read line; echo "got $line"; exit 5'];
  const running = podman().startOnTerminal(['run', '--rm', '--network', 'none', '-it', image, ...line]);
  await running.prints(/ready/);
  running.write('some words\r');
  const { code, stdout } = await running.result;
  expect(stdout).toContain('got some words');
  expect(code).toBe(5);
  await podman().ok('run', '--detach', '--network', 'none', '--name', 'terminal', image, 'sleep', '1000');
  const inside = podman().startOnTerminal(['exec', '-it', 'terminal', 'sh', '-c', 'echo ready; exec sleep 1000']);
  await inside.prints(/ready/);
  inside.write('\x03');
  expect((await inside.result).code).toBe(130);
  await podman().ok('rm', '--force', '--time', '0', 'terminal');
});

test('volumes are those of the host', async () => {
  const folder = join(podman().home, 'volume');
  mkdirSync(folder);
  chmodSync(folder, 0o777);
  writeFileSync(join(folder, 'file'), 'from outside\n');
  expect(await sh('cat /v/file; echo inside >/v/new', '--volume', `${folder}:/v`)).toBe('from outside\n');
  expect(readFileSync(join(folder, 'new'), 'utf8')).toBe('inside\n');
  expect(await sh('touch /v/new; echo $?', '--volume', `${folder}:/v:ro`)).toBe('1\n');
  expect(await sh('stat -c %u /v/u || touch /v/u; stat -c %u /v/u', '--volume', 'data:/v:U', '--user', '7')).toBe(
    '7\n',
  );
});

test('--user, --hostname, --sysctl, --ulimit, --env, --workdir, --group-add, --oom-score-adj', async () => {
  const settings = {
    user: '1000:1000',
    hostname: 'named',
    sysctl: 'net.ipv4.ip_unprivileged_port_start=80',
    ulimit: 'nofile=123:456',
    env: 'A=b',
    workdir: '/etc',
    'group-add': '7',
    'oom-score-adj': '500',
  };
  const script =
    'id; hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ulimit -n; echo $A; pwd; cat /proc/self/oom_score_adj';
  expect(await sh(script, ...Object.entries(settings).map(([name, value]) => `--${name}=${value}`))).toBe(
    'uid=1000(user) gid=1000(user) groups=7,1000(user)\nnamed\n80\n123\nb\n/etc\n500\n',
  );
});

test('--userns keep-id has the same ids inside', async () => {
  const keep = ['--userns', 'keep-id', '--volume', `${podman().home}:/v`];
  expect(await sh('id -u; stat -c %u /v', ...keep)).toBe('64321\n64321\n');
});

test('capabilities, seccomp and masked paths are as usual', async () => {
  const script = 'grep -E "^(CapEff|Seccomp):" /proc/self/status; cat /proc/kcore | wc -c';
  expect(await sh(script)).toBe('CapEff:\t00000000800405fb\nSeccomp:\t2\n0\n');
});

test('--read-only with --tmpfs', async () => {
  expect(await sh('touch /x; echo $?; touch /t/x; echo $?', '--read-only', '--tmpfs', '/t')).toBe('1\n0\n');
});

// A user namespace may not mount the host's PID namespace, and this Podman sets a sysctl for every container.
test('--pid host is that of the host', async () => {
  expect(await sh('readlink /proc/self/ns/pid', '--pid', 'host')).not.toBe(await sh('readlink /proc/self/ns/pid'));
  expect(await sh('cat /proc/sys/net/ipv4/ping_group_range', '--pid', 'host')).toBe('0\t0\n');
});

test('the namespaces of another container can be joined', async () => {
  await podman().ok('run', '--detach', '--network', 'none', '--name', 'first', image, 'sleep', '1000');
  const share = ['network', 'pid', 'ipc'].map((kind) => `--${kind}=container:first`);
  expect(await podman().ok('run', '--rm', ...share, image, 'cat', '/proc/1/comm')).toBe('sleep\n');
  await podman().ok('rm', '--force', '--time', '0', 'first');
});

test('--systemd=always has what systemd wants to find, and cgroups can be looked at', async () => {
  const printed = await sh('cat /proc/mounts', '--systemd=always');
  for (const place of ['/run', '/tmp', '/sys/fs/cgroup']) expect(printed).toContain(` ${place} `);
  expect(await sh('mkdir /sys/fs/cgroup/x /sys/fs/cgroup/memory/x 2>/dev/null; echo $?; ls /sys/fs/cgroup')).toMatch(
    /^1\n\w/,
  );
});

test('--network slirp4netns has a way out', async (context) => {
  if (!existsSync('/usr/bin/slirp4netns')) context.skip('slirp4netns is not installed');
  if ((statSync('/dev/net/tun').mode & 0o006) !== 0o006) context.skip('/dev/net/tun is not for ordinary users here');
  const run = ['run', '--rm', '--network', 'slirp4netns', image, 'sh', '-c'];
  expect(await podman().ok(...run, 'ip -4 -o addr show tap0')).toContain('inet 10.0.2.100/24');
});
