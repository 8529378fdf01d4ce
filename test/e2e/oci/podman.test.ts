import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { cgroupsNamed } from '../../support/bundle.ts';
import { image } from '../../support/dockerd.ts';
import { usePodman } from '../../support/podman.ts';
import { until } from '../../support/until.ts';

const podman = usePodman();

/** Runs a line of shell in a container that goes with it. */
const sh = (line: string, ...flags: string[]) =>
  podman().ok('run', '--rm', '--network', 'none', ...flags, image, 'sh', '-c', line);
const inspect = async (name: string, what: string) =>
  (await podman().ok('inspect', '--format', `{{${what}}}`, name)).trim();
const trapping = 'trap "echo bye; exit 3" TERM; echo up; while :; do sleep 0.05; done';

async function logged(name: string, text: string): Promise<void> {
  let seen = '';
  const look = async () => {
    seen = await podman().ok('logs', name);
    return seen.includes(text);
  };
  await until(`${name} prints ${text}`, look, { seen: () => seen });
}

test('run passes input, outputs and the exit code through', async () => {
  const run = ['run', '--rm', '--network', 'none', '--interactive', image, 'sh', '-c', 'cat; echo problem >&2; exit 7'];
  expect(await podman().call(run, { input: 'through\n' })).toEqual({
    code: 7,
    stdout: 'through\n',
    stderr: 'problem\n',
  });
});

test('a command that there is not ends with 127, one that cannot be executed with 126', async () => {
  const missing = await podman().call(['run', '--rm', '--network', 'none', image, 'nonsense']);
  expect(missing.code).toBe(127);
  expect(missing.stderr).toContain('nonsense');
  const folder = await podman().call(['run', '--rm', '--network', 'none', image, '/etc/passwd']);
  expect(folder.code).toBe(126);
  expect(folder.stderr).toContain('/etc/passwd');
});

test('a container in the background: exec, logs, top, stats, pause, stop, start, update, kill, rm', async () => {
  const name = 'background';
  await podman().ok('run', '--detach', '--network', 'none', '--name', name, image, 'sh', '-c', trapping);
  await logged(name, 'up');

  expect(await podman().ok('exec', name, 'id', '-u')).toBe('0\n');
  expect(await podman().ok('exec', '--user', '1000:1000', '--workdir', '/tmp', name, 'sh', '-c', 'id -u; pwd')).toBe(
    '1000\n/tmp\n',
  );
  expect((await podman().call(['exec', name, 'sh', '-c', 'exit 9'])).code).toBe(9);
  expect((await podman().call(['exec', name, 'nonsense'])).code).toBe(127);
  expect((await podman().call(['exec', '--interactive', name, 'cat'], { input: 'typed\n' })).stdout).toBe('typed\n');

  expect(await podman().ok('top', name)).toContain('trap');
  expect(await podman().ok('stats', '--no-stream', '--format', '{{.Name}} {{.PIDs}}', name)).toMatch(
    /^background [1-9]/,
  );

  await podman().ok('pause', name);
  expect(await inspect(name, '.State.Status')).toBe('paused');
  await podman().ok('unpause', name);
  expect(await inspect(name, '.State.Status')).toBe('running');

  await podman().ok('stop', '--time', '20', name);
  expect(await inspect(name, '.State.Status')).toBe('exited');
  expect(await inspect(name, '.State.ExitCode')).toBe('3');
  expect(await podman().ok('logs', name)).toBe('up\nbye\n');

  await podman().ok('start', name);
  expect(await inspect(name, '.State.Running')).toBe('true');
  await podman().ok('update', '--memory', '48m', '--memory-swap', '48m', name);
  expect(
    await podman().ok(
      'exec',
      name,
      'sh',
      '-c',
      'cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max',
    ),
  ).toBe(`${48 << 20}\n`);

  await podman().ok('kill', name);
  expect(await podman().ok('wait', name)).toBe('137\n');
  await podman().ok('rm', name);
  expect(await podman().ok('ps', '--all', '--quiet')).toBe('');
});

test('run --interactive --tty has a terminal with keys and a size', async () => {
  const running = podman().startOnTerminal([
    'run',
    '--rm',
    '--network',
    'none',
    '-it',
    image,
    'sh',
    '-c',
    'tty; echo ready; read line; echo "got $line"; exit 5',
  ]);
  await running.prints(/ready/);
  running.write('some words\r');
  const { code, stdout } = await running.result;
  expect(stdout).toMatch(/\/dev\/(pts\/0|console)/);
  expect(stdout).toContain('got some words');
  expect(code).toBe(5);
});

test('exec --interactive --tty has one too, and Ctrl-C ends the command', async () => {
  await podman().ok('run', '--detach', '--network', 'none', '--name', 'terminal', image, 'sleep', '1000');
  const running = podman().startOnTerminal(['exec', '-it', 'terminal', 'sh', '-c', 'tty; echo ready; exec sleep 1000']);
  await running.prints(/ready/);
  running.write('\x03');
  expect((await running.result).code).toBe(130);
  await podman().ok('rm', '--force', '--time', '0', 'terminal');
});

test('volumes are those of the host', async () => {
  const folder = join(podman().dir, 'volume');
  mkdirSync(folder);
  writeFileSync(join(folder, 'file'), 'from outside\n');
  expect(await sh('cat /v/file; echo inside >/v/new', '--volume', `${folder}:/v`)).toBe('from outside\n');
  expect(readFileSync(join(folder, 'new'), 'utf8')).toBe('inside\n');
  expect(await sh('touch /v/file; echo $?', '--volume', `${folder}:/v:ro`)).toBe('1\n');
});

test('limits are in the control groups', async () => {
  const script =
    'cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes pids/pids.max cpu/cpu.cfs_quota_us || cat memory.max pids.max cpu.max';
  const flags = ['--memory', '64m', '--pids-limit', '60', '--cpus', '0.5'];
  expect(await sh(`${script} 2>/dev/null`, ...flags)).toMatch(/^67108864\n60\n50000( 100000)?\n$/);
});

test('--read-only with --tmpfs', async () => {
  const script = 'touch /x; echo $?; touch /t/x; echo $?; stat -c %a /t';
  expect(await sh(script, '--read-only', '--tmpfs', '/t:mode=1700')).toBe('1\n0\n1700\n');
});

test('--user, --hostname, --sysctl, --ulimit, --env, --workdir, --group-add', async () => {
  const script = 'id; hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ulimit -n; echo $A; pwd';
  const flags = ['--user', '1000:1000', '--hostname', 'named', '--sysctl', 'net.ipv4.ip_unprivileged_port_start=80'];
  const more = [
    '--ulimit',
    'nofile=123:456',
    '--ulimit',
    'nproc=200:300',
    '--env',
    'A=b',
    '--workdir',
    '/etc',
    '--group-add',
    '7',
  ];
  expect(await sh(script, ...flags, ...more)).toBe(
    'uid=1000(user) gid=1000(user) groups=7,1000(user)\nnamed\n80\n123\nb\n/etc\n',
  );
});

test('capabilities, seccomp and masked paths are as usual', async () => {
  const script = 'grep -E "^(CapEff|Seccomp):" /proc/self/status; cat /proc/kcore | wc -c';
  expect(await sh(script)).toBe('CapEff:\t00000000800405fb\nSeccomp:\t2\n0\n');
  expect(await sh(script, '--cap-drop', 'ALL', '--security-opt', 'seccomp=unconfined')).toBe(
    'CapEff:\t0000000000000000\nSeccomp:\t0\n0\n',
  );
});

test('--privileged has devices, and writes to /proc/sys', async () => {
  const script =
    'ls /dev | grep -c .; test -w /proc/sys/kernel/domainname && echo writable; mount -t tmpfs tmpfs /tmp && echo mounted';
  expect(await sh(script, '--privileged')).toMatch(/^\d\d+\nwritable\nmounted\n$/);
});

test('--init is PID 1, --pid host is none', async (context) => {
  expect(await sh('readlink /proc/self/ns/pid', '--pid', 'host')).not.toBe(await sh('readlink /proc/self/ns/pid'));
  const init = '/usr/bin/docker-init';
  if (!existsSync(init)) context.skip(`${init} is not installed`);
  expect(await sh('cat /proc/1/comm', '--init', '--init-path', init)).toBe('podman-init\n');
});

test('--uidmap maps the ids', async () => {
  expect(await sh('id -u; cat /proc/self/uid_map; touch /x; stat -c %u /x', '--uidmap', '0:100000:65536')).toMatch(
    /^0\n\s+0\s+100000\s+65536\n0\n$/,
  );
});

test('--systemd=always has what systemd wants to find', async () => {
  const printed = await sh('mount; echo $container', '--systemd=always');
  expect(printed).toMatch(/^tmpfs on \/run type tmpfs/m);
  expect(printed).toMatch(/^tmpfs on \/tmp type tmpfs/m);
  expect(printed).toMatch(/ on \/sys\/fs\/cgroup/m);
  expect(printed).toMatch(/^(podman|oci)$/m);
});

test('--read-only has folders to write to, with what the image has in them', async () => {
  expect(
    await sh('touch /x; echo $?; for d in /tmp /run /var/tmp; do touch $d/x && echo $d; done', '--read-only'),
  ).toBe('1\n/tmp\n/run\n/var/tmp\n');
  expect(
    await sh('cat /etc/group; touch /etc/x && echo ok', '--mount', 'type=tmpfs,destination=/etc,tmpcopyup'),
  ).toMatch(/user:x:1000:\nok\n$/);
});

test('two start at once', async () => {
  const [one, two] = await Promise.all([sh('echo one'), sh('echo two')]);
  expect([one, two]).toEqual(['one\n', 'two\n']);
});

test('a container that is removed leaves no process and no control group', async () => {
  const id = (await podman().ok('run', '--detach', '--network', 'none', image, 'sleep', '1000')).trim();
  const pid = Number(await inspect(id, '.State.Pid'));
  expect(cgroupsNamed(id)).not.toEqual([]);
  await podman().ok('rm', '--force', '--time', '0', id);
  await until('its control groups are gone', () => cgroupsNamed(id).length === 0);
  expect(await sh(`ls /proc/${pid}/cmdline; echo $?`, '--pid', 'host')).toBe('1\n');
});
