import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { removeTree } from '../../src/store/box/index.ts';
import { readUserMap } from '../../src/sys/userns.ts';
import { killNow, quote, tsvProgram } from '../support/cli.ts';
import { type Fixture, fixture, sharedFixture } from '../support/fixture.ts';
import { busyboxImage } from '../support/images.ts';
import { testRegistry } from '../support/registry.ts';
import { until } from '../support/until.ts';

const tsfile = `
version: 1
defaults: { memory: 64M, env: { COLOUR: blue } }
networks: { default: { mode: isolated }, back: { mode: isolated } }
machines:
  web: { image: debian-12, stop_timeout: 1s }
`;
const sh = (line: string, ...options: string[]): string[] => [
  'run',
  '-q',
  ...options,
  'debian-12',
  '--',
  'sh',
  '-c',
  line,
];
const stubborn = "trap '' HUP INT TERM; echo up; while :; do sleep 1000; done";
const tsv = [process.execPath, tsvProgram].map(quote).join(' ');

/** Its agent leaves by itself, with all that was made for one command. */
const nothingLeft = async (project: Fixture): Promise<void> => {
  await until('the agent has left', () => !existsSync(join(project.dir, '.ts-vm')));
  await project.expectNothingLeft();
};

describe('a command in a container of its own, beside machines that run', () => {
  const project = sharedFixture('run beside machines', { 'Tsfile.yaml': tsfile }, { prepare: (made) => made.ok('up') });
  const gone = async (): Promise<void> => expect(await project().states()).toEqual({ web: 'running' });

  test('has its own exit code, output and errors, and is gone afterwards', async () => {
    const { code, stdout, stderr } = await project().tsv(sh('echo out; echo err >&2; exit 7'));
    expect([code, stdout, stderr]).toEqual([7, 'out\n', 'err\n']);
    await gone();
    const missing = await project().tsv('run debian-12 no-such-program');
    expect([missing.code, missing.stderr]).toEqual([127, expect.stringContaining('no-such-program')]);
    await gone();
    expect(existsSync(join(project().dir, '.ts-vm', 'machines', 'run-1'))).toBe(false);
  });

  test('is in a pipe what any program is, whatever the bytes, and whoever has enough of them', async () => {
    const line = `head -c 3000000 /dev/urandom >in && ${tsv} run -q debian-12 cat <in >out && cmp in out && rm in out`;
    expect(await project().run(['sh', '-c', line])).toMatchObject({ code: 0, stderr: '' });
    const some = await project().run(['sh', '-c', `yes | ${tsv} run debian-12 head -n 2`]);
    expect([some.code, some.stdout]).toEqual([0, 'y\ny\n']);
    const cut = await project().run(['bash', '-c', `${tsv} run debian-12 yes | head -n 2`]);
    expect([cut.code, cut.stdout]).toEqual([0, 'y\ny\n']);
    await until('it is gone', async () => Object.keys(await project().states()).length === 1);
  });

  test('has the environment, user and folder that it is given, and the network that it is put into', async () => {
    const line = 'echo $COLOUR $SIZE; pwd; id -un; hostname';
    const options = ['-e', 'SIZE=9', '-w', '/srv/new', '-u', 'nobody', '--name', 'client'];
    expect((await project().ok(sh(line, ...options))).stdout).toBe('blue 9\n/srv/new\nnobody\nclient\n');
    const subnets = async (...network: string[]) =>
      (await project().ok(sh('ip -o -4 address show dev eth0 | grep -o "inet [0-9.]*"', ...network))).stdout;
    expect(await subnets('--network', 'back')).not.toBe(await subnets());
    for (const [word, message] of [
      ['--name=web', /machine web already/],
      ['--name=Web', /letters a-z/],
      ['--network=bakc', /no network bakc[\s\S]*did you mean `back`/],
      ['--workdir=srv', /begins with \//],
    ] as const) {
      const { code, stderr } = await project().tsv(sh('true', word));
      expect([code, stderr]).toEqual([1, expect.stringMatching(message)]);
    }
    const idle = await project().tsv('run debian-12');
    expect([idle.code, idle.stderr]).toEqual([1, expect.stringMatching(/does not say what to run[\s\S]*bash/)]);
  });

  test('finds the machines by name, is a machine like others while it runs, and not for up', async () => {
    const one = project().start(sh('getent hosts web; cat'));
    const web = (await project().status()).machines[0]?.addresses.default ?? '';
    await one.prints(new RegExp(`^${web.replaceAll('.', '\\.')} +web`));
    const two = project().start(sh('getent hosts run-1; cat'));
    await two.prints(/^[0-9.]+ +run-1/);
    expect(await project().states()).toEqual({ web: 'running', 'run-1': 'running', 'run-2': 'running' });
    expect((await project().ok('status')).stdout).toMatch(/^run-1 +container \(run\) +running/m);
    expect((await project().ok('exec run-2 -- hostname')).stdout).toBe('run-2\n');
    expect((await project().ok('up')).stderr).toContain('Everything is as the Tsfile says');
    await project().ok('restart');
    await project().ok('wait running');
    one.write('still here\n');
    await one.prints(/^still here$/m);
    for (const { endInput, result } of [one, two]) {
      endInput();
      expect((await result).code).toBe(0);
    }
    await gone();
  });

  test('has a terminal where there is one, with its keys and its size', async () => {
    const shell = project().startOnTerminal(['run', 'debian-12', '--', 'bash', '--norc']);
    await shell.prints(/# /);
    shell.write('tty; sleep 1000\r');
    await shell.prints(/\/dev\/pts\/\d/);
    await until('it sleeps', async () => /sleep 1000/.test((await project().ok('top run-1')).stdout));
    shell.write('\x03');
    await shell.prints(/\^C/);
    shell.write('echo code $?; exit 3\r');
    await shell.prints(/code 130/);
    expect((await shell.result).code).toBe(3);
    await gone();
    const plain = project().startOnTerminal(['run', '-T', 'debian-12', 'tty']);
    expect((await plain.result).stdout).toContain('not a tty');
  });

  test('gets the signals that tsv run gets, and is ended by a second one, whatever it makes of them', async () => {
    const careful = project().start(sh('trap "echo bye; exit 5" TERM; echo up; while :; do sleep 0.1; done'));
    await careful.prints(/up/);
    careful.signal('SIGTERM');
    expect(await careful.result).toMatchObject({ code: 5, stdout: 'up\nbye\n' });
    const other = project().start(sh(stubborn));
    await other.prints(/up/);
    other.signal('SIGINT');
    other.signal('SIGTERM');
    expect([130, 143]).toContain((await other.result).code);
    await until('it is gone', async () => Object.keys(await project().states()).length === 1);
  });

  test('goes with its tsv run, however that ends, and though it reads no input', async () => {
    const line = `yes | sh -c 'echo $$ >pid; exec "$@"' - ${tsv} ${sh(stubborn).map(quote).join(' ')} | tee out`;
    const piped = project().run(['sh', '-c', line]);
    const written = (name: string) => readFileSync(join(project().dir, name), 'utf8');
    await until('it runs', () => existsSync(join(project().dir, 'out')) && written('out') === 'up\n');
    await killNow(Number(written('pid')));
    await piped;
    await until('it is gone', async () => Object.keys(await project().states()).length === 1);
  });

  test('goes with its agent, which the next one sees to, and fails', async () => {
    const running = project().start(sh(stubborn));
    await running.prints(/up/);
    const [container, web] = [project().machinePid('run-1'), project().machinePid('web')];
    await killNow(project().agentPid() ?? 0);
    const { code, stderr } = await running.result;
    expect([code, stderr]).toEqual([1, expect.stringContaining('agent was ended')]);
    expect(existsSync(`/proc/${container}`)).toBe(false);
    await gone();
    expect(project().machinePid('web')).toBe(web);
  });

  test('is removed by the next command with an agent where everybody was killed', async () => {
    const running = project().start(sh(stubborn));
    await running.prints(/up/);
    const agent = project().agentPid() ?? 0;
    process.kill(agent, 'SIGSTOP');
    await killNow(running.pid);
    await killNow(agent);
    expect(await project().states()).toMatchObject({ 'run-1': 'running' });
    await project().ok('up');
    await gone();
  });
});

describe('a command in a container of its own, of a project that is down', () => {
  test('brings the network, and takes all of it along when it ends', async () => {
    const project = fixture({ 'Tsfile.yaml': tsfile });
    expect((await project.ok(sh('ip -o link show eth0; hostname'))).stdout).toMatch(/eth0[\s\S]*\nrun-1\n$/);
    await nothingLeft(project);
    await project.ok('up');
    await project.ok('halt');
    const subnets = () => Object.values(project.state()?.networks ?? {}).map(({ subnet }) => subnet);
    const before = subnets();
    await project.ok(sh('true'));
    await until('the agent has left', () => project.agentPid() === undefined);
    expect([await project.states(), subnets()]).toEqual([{ web: 'stopped' }, before]);
  });

  test('leaves nothing when it is killed, nor when it is halted or destroyed', async () => {
    const project = fixture({ 'Tsfile.yaml': tsfile });
    const begin = async () => {
      const running = project.start(sh(stubborn));
      await running.prints(/up/);
      project.state();
      return running;
    };
    const killed = await begin();
    await killNow(killed.pid);
    await nothingLeft(project);
    for (const command of ['halt --force', 'destroy --force']) {
      const running = await begin();
      await project.ok(command);
      expect((await running.result).code).toBe(137);
      await nothingLeft(project);
    }
  });

  test('is of an image that is pulled when it is missing, and named when it cannot be', async () => {
    const registry = await testRegistry();
    const store = mkdtempSync(join(tmpdir(), 'tsv-store-'));
    const dir = mkdtempSync(join(tmpdir(), 'tsv-little-'));
    const project = fixture({ 'Tsfile.yaml': tsfile }, { TSV_STORE: store });
    try {
      registry.push(busyboxImage(dir, true), 'little:1');
      const image = `${registry.host}/little:1`;
      const first = await project.ok(['run', '--entrypoint', '/bin/busybox', image, 'echo', 'hi']);
      expect([first.stdout, first.stderr]).toEqual(['hi\n', expect.stringContaining('little:1')]);
      expect(await project.ok(['run', '-q', image, 'echo', '-n', 'again'])).toMatchObject({
        stdout: 'again',
        stderr: '',
      });
      const unknown = await project.tsv(['run', `${registry.host}/litle:1`, 'true']);
      expect([unknown.code, unknown.stderr]).toEqual([1, expect.stringContaining('litle')]);
      const wrong = await project.tsv(['run', 'Debian-12', 'true']);
      expect([wrong.code, wrong.stderr]).toEqual([1, expect.stringContaining('did you mean `debian-12`')]);
      await nothingLeft(project);
    } finally {
      rmSync(dir, { recursive: true });
      await removeTree(store, readUserMap());
    }
  });
});
