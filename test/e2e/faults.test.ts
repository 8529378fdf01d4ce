import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { get, killNow } from '../support/cli.ts';
import { fixture, freePort } from '../support/fixture.ts';
import { listProcesses, openFiles, readProcess } from '../support/host-processes.ts';
import { until } from '../support/until.ts';

const two = `
version: 1
defaults: { memory: 64M }
networks: { default: { mode: nat } }
machines:
  a: { image: debian-12 }
  b: { image: debian-12 }
`;

describe('when something dies', () => {
  test('a killed agent takes no machine along, and the next command works as before', async () => {
    const project = fixture({ 'Tsfile.yaml': two });
    await project.ok('up');
    const before = project.machinePid('a');
    await killNow(project.agentPid() ?? 0);
    expect(await project.states()).toEqual({ a: 'running', b: 'running' });
    expect(project.agentPid()).toBeUndefined();
    expect((await project.ok('exec a -- hostname')).stdout).toBe('a\n');
    expect(project.machinePid('a')).toBe(before);
    expect((await project.ok('up')).stderr).toContain('Everything is as the Tsfile says');
  });

  test('a killed agent gives its forwards back with the next command', async () => {
    const port = await freePort();
    const project = fixture({
      'Tsfile.yaml': two.replace(
        'a: { image: debian-12 }',
        `a: { image: debian-12, forwards: ["${port}:8000"], command: [perl, -MIO::Socket::INET, -e, 'my $l = IO::Socket::INET->new(LocalPort => 8000, Listen => 4, ReuseAddr => 1); while (my $c = $l->accept) { while (<$c>) { last if /^\\r?$/ } print $c "HTTP/1.0 200 OK\\r\\n\\r\\nyes"; close $c }'] }`,
      ),
    });
    await project.ok('up');
    const ask = () => get(port);
    await until('the server answers', () => ask().catch(() => undefined));
    await killNow(project.agentPid() ?? 0);
    await expect(ask()).rejects.toThrow();
    await project.ok('up');
    expect(await ask()).toBe('yes');
  });

  test('an agent that comes while another still leaves waits for its end', async () => {
    const project = fixture({ 'Tsfile.yaml': two });
    await project.ok('up a');
    await project.ok('halt');
    await until('the agent has left', () => project.agentPid() === undefined);
    const leaving = spawn('flock', [join(project.dir, '.ts-vm', 'lock'), 'cat'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    onTestFinished(() => {
      leaving.stdin.end();
    });
    // What cat gives back tells that the lock is held.
    leaving.stdin.write('locked\n');
    await once(leaving.stdout, 'data');
    const holder = readProcess(leaving.pid ?? 0);
    const said = {
      pid: holder?.pid,
      startTime: holder?.startTime,
      command: 'leaving',
      since: new Date().toISOString(),
    };
    writeFileSync(join(project.dir, '.ts-vm', 'lock.holder'), JSON.stringify(said));
    const up = project.start('up a', { input: '' });
    await until('an agent waits for the other', () =>
      [...listProcesses().values()].some(
        ({ pid, environment, command }) =>
          environment.includes(`TSV_DIR=${project.dir}`) &&
          command.includes('dist/agent.cjs') &&
          openFiles(pid).includes('anon_inode:[pidfd]'),
      ),
    );
    leaving.stdin.end();
    expect(await up.result).toMatchObject({ code: 0 });
  });

  test('a killed container is told with the signal, and up starts it again with its files', async () => {
    const project = fixture({ 'Tsfile.yaml': two });
    await project.ok('up');
    await project.ok(['exec', 'a', '--', 'sh', '-c', 'echo kept >/kept']);
    await killNow(project.machinePid('a'));
    await until('how a ended is known', async () => (await project.states()).a === 'stopped (killed by SIGKILL)');
    expect((await project.states()).b).toBe('running');
    expect((await project.tsv('exec a -- true')).stderr).toContain('a is not running');
    await project.ok('up');
    expect((await project.ok('exec a -- cat /kept')).stdout).toBe('kept\n');
    expect(await project.states()).toEqual({ a: 'running', b: 'running' });
  });

  test('a killed container and a killed agent at once', async () => {
    const project = fixture({ 'Tsfile.yaml': two });
    await project.ok('up');
    await Promise.all([killNow(project.machinePid('a')), killNow(project.agentPid() ?? 0)]);
    await until('how a ended is known', async () => (await project.states()).a === 'stopped (killed by SIGKILL)');
    await project.ok('up');
    expect(await project.states()).toEqual({ a: 'running', b: 'running' });
  });

  test('a stopped machine starts again while its old network is still there', async () => {
    const project = fixture({ 'Tsfile.yaml': two });
    await project.ok('up');
    // The kernel takes a network namespace down in its own time. An open descriptor makes that time as long as the test.
    const old = openSync(`/proc/${project.machinePid('a')}/ns/net`, 'r');
    onTestFinished(() => closeSync(old));
    await project.ok('halt a');
    await project.ok('up');
    expect(await project.states()).toEqual({ a: 'running', b: 'running' });
    expect((await project.ok('exec b -- ping -c1 -W5 a')).stdout).toContain('1 received');
  });

  test('a killed sandbox holder: status does not claim that machines work, up makes them anew', async () => {
    const project = fixture({ 'Tsfile.yaml': two });
    await project.ok('up');
    await project.ok(['exec', 'a', '--', 'sh', '-c', 'echo kept >/kept']);
    await killNow(project.holderPid());
    expect((await project.status()).machines).toHaveLength(2);
    await project.ok('up');
    expect(await project.states()).toEqual({ a: 'running', b: 'running' });
    expect((await project.ok('exec a -- cat /kept')).stdout).toBe('kept\n');
    expect((await project.ok('exec a -- getent ahostsv4 b')).stdout).toContain('b');
  });

  test('a killed name server is started again by up', async () => {
    const project = fixture({ 'Tsfile.yaml': two });
    await project.ok('up');
    const pid = project.state()?.sandbox?.dnsmasq?.pid ?? 0;
    await killNow(pid);
    await project.ok('up');
    expect((await project.ok('exec a -- getent ahostsv4 b')).stdout).toContain('b');
  });

  test.each([1, 2])('all of it killed at once, networks: %i; destroy removes everything', async (count) => {
    const more = two
      .replace('networks: {', 'networks: { backend: { mode: isolated },')
      .replace('a: { image: debian-12', 'a: { image: debian-12, networks: [default, backend]');
    const project = fixture({ 'Tsfile.yaml': count === 2 ? more : two });
    await project.ok('up');
    const { holder, dnsmasq } = project.state()?.sandbox ?? {};
    const machines = [project.machinePid('a'), project.machinePid('b')];
    const pids = [project.agentPid() ?? 0, ...machines, holder?.pid ?? 0, dnsmasq?.pid ?? 0];
    await Promise.all(pids.map((pid) => killNow(pid)));
    await project.ok('destroy -f');
    await project.expectNothingLeft();
  });

  test('a machine whose command ends at once is told with what it printed', async () => {
    const project = fixture({
      'Tsfile.yaml': two.replace(
        'a: { image: debian-12 }',
        'a: { image: debian-12, command: "echo I refuse; exit 3" }',
      ),
    });
    await project.tsv('up');
    expect((await project.states()).a).toMatch(/^stopped/);
    expect((await project.states()).b).toBe('running');
    expect((await project.ok('logs a')).stdout).toContain('I refuse');
  });
});

describe('status', () => {
  test('needs no agent and starts none', async () => {
    const project = fixture({ 'Tsfile.yaml': two });
    expect(await project.states()).toEqual({ a: 'not created', b: 'not created' });
    expect(existsSync(join(project.dir, '.ts-vm'))).toBe(false);
  });

  test('does not wait for an agent that hangs', async () => {
    const project = fixture({ 'Tsfile.yaml': two });
    await project.ok('up');
    const agent = project.agentPid() ?? 0;
    process.kill(agent, 'SIGSTOP');
    onTestFinished(() => void process.kill(agent, 'SIGCONT'));
    const { code, stdout } = await project.tsv('status', { timeoutMs: 10_000 });
    expect(code).toBe(0);
    expect(stdout).toMatch(/a +container +running/);
  });

  test('does not take another process with the same number for the machine', async () => {
    const project = fixture({ 'Tsfile.yaml': two });
    await project.ok('up');
    await project.ok('halt');
    await until('the agent has left', () => project.agentPid() === undefined);
    const file = join(project.dir, '.ts-vm', 'state.json');
    const state = JSON.parse(readFileSync(file, 'utf8')) as { machines: { a: { process?: object } } };
    state.machines.a.process = {
      pid: process.pid,
      startTime: '1',
      bootId: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
    };
    writeFileSync(file, JSON.stringify(state));
    expect((await project.states()).a).toBe('stopped (ended with 0)');
    await project.ok('destroy -f');
  });
});
