import { createHash } from 'node:crypto';
import { appendFileSync, existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { killNow, tsvProgram } from '../support/cli.ts';
import { ConsoleFiles } from '../support/console-files.ts';
import { type Fixture, sharedFixture } from '../support/fixture.ts';
import { until } from '../support/until.ts';

/** Containers that print what the test appends to a shared file. */
const machine = (name: string) => `
  ${name}:
    image: debian-12
    memory: 64M
    share: [{ host: ./said, guest: /srv/said, readonly: true }]
    command: [tail, -c, "+1", -f, /srv/said/${name}]`;
const tsfile = `
version: 1
project: talk
networks: { inside: { mode: isolated } }
defaults: { networks: [inside] }
machines:${['a', 'bell'].map(machine).join('')}
  done: { image: debian-12, memory: 64M, command: "echo finished; exit 0" }
  fails:
    image: debian-12
    memory: 64M
    restart: on-failure:2
    share: [{ host: ./said, guest: /srv/said, readonly: true }]
    command: "echo run; until test -e /srv/said/fail; do sleep 0.05; done; exit 3"
`;

/** For a shell. */
const tsv = `'${process.execPath}' '${tsvProgram}'`;

const sha256 = (data: string | Buffer): string => createHash('sha256').update(data).digest('hex');

const logDir = (project: Fixture, name: string) => join(project.dir, '.ts-vm', 'machines', name);

describe('the output of containers', () => {
  const project = sharedFixture(
    'the output of containers',
    { 'Tsfile.yaml': tsfile, 'said/a': 'a begins\n', 'said/bell': 'bell begins\n' },
    {
      prepare: async (made) => {
        await made.ok('up a bell');
        await made.start('logs -f a').prints(/a begins/);
        await made.start('logs -f bell').prints(/bell begins/);
      },
    },
  );
  const say = (name: string, text: string | Buffer) => appendFileSync(join(project().dir, 'said', name), text);

  test('is followed line by line, with the names of the machines, as it comes', async () => {
    const follower = project().start('logs -f a bell', { input: '' });
    await follower.prints(/bell begins/);
    say('a', 'first\n');
    await follower.prints(/^a {4}\| first\n/m);
    say('bell', 'second\nname? ');
    await follower.prints(/^bell \| second\nbell \| name\? $/m);
    say('a', 'third\n');
    await follower.prints(/^bell \| name\? \na {4}\| third\n/m);
    follower.signal('SIGINT');
    expect((await follower.result).code).toBe(130);
    say('bell', '\n');
  });

  test('comes out byte for byte', async () => {
    const follower = project().start('logs -f a', { input: '' });
    const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 31 + (i >> 8) + (i >> 16)) % 256));
    say('a', Buffer.concat([Buffer.from('binary\n'), bytes, Buffer.from('\nend of it\n')]));
    await follower.prints(/end of it\n/);
    follower.signal('SIGINT');
    await follower.result;
    const { code, stdout } = await project().run(['sh', '-c', `${tsv} logs a | sha256sum`]);
    expect([code, stdout.slice(0, 64)]).toEqual([0, sha256(readFileSync(join(project().dir, 'said', 'a')))]);
  });

  test('is followed over rotation, and to the end of the machine, without a lost or doubled byte', async () => {
    const copy = join(project().dir, 'copy');
    const hashed = project().run(['sh', '-c', `${tsv} logs -f bell | tee copy | sha256sum`]);
    await until('the follower has begun', () => (statSync(copy, { throwIfNoEntry: false })?.size ?? 0) > 0);
    const lines = Array.from({ length: 2_000_000 }, (_, n) => `line ${n}\n`).join('');
    say('bell', lines);
    const said = readFileSync(join(project().dir, 'said', 'bell'));
    await until('all is printed', () => statSync(copy).size >= said.length, { timeoutMs: 60_000 });
    await project().ok('halt --force bell');
    expect((await hashed).stdout.slice(0, 64)).toBe(sha256(said));
    expect(existsSync(join(logDir(project(), 'bell'), 'console.log.1'))).toBe(true);
  });

  test('S42 takes 16 MiB and the 16 before it, and as much for its times, whatever is printed', async () => {
    await project().ok(['exec', 'a', '--', 'sh', '-c', 'yes without end | head -c 100000000 >/proc/1/fd/1']);
    const files = ['console.log', 'console.log.1', 'console.times', 'console.times.1'];
    for (const file of files)
      expect(statSync(join(logDir(project(), 'a'), file)).size, file).toBeLessThanOrEqual(16 << 20);
    expect(statSync(join(logDir(project(), 'a'), 'console.log.1')).size).toBeGreaterThan(15 << 20);
  });

  test('is followed into a machine that is made anew, as long as another one runs', async () => {
    writeFileSync(join(project().dir, 'said', 'bell'), 'bell again\n');
    await project().ok('up bell');
    const follower = project().start('logs -f --no-prefix --tail 1 bell a', { input: '' });
    await follower.prints(/bell again\n/);
    await project().ok('destroy -f bell');
    writeFileSync(join(project().dir, 'said', 'bell'), 'bell anew\n');
    await project().ok('up bell');
    await follower.prints(/bell anew\n/);
    say('bell', 'and on\n');
    await follower.prints(/and on\n/);
    await project().ok('halt --force a bell');
    const { code, stdout } = await follower.result;
    expect([code, stdout.slice(stdout.indexOf('bell again'))]).toEqual([0, 'bell again\nbell anew\nand on\n']);
  });

  test('has true times', async () => {
    const before = BigInt(Date.now()) * 1_000_000n;
    await project().ok('up bell');
    await project()
      .start('logs -f --since 1m bell')
      .prints(/bell anew\nand on\nbell anew\nand on\n/);
    const after = Date.now() + 1;
    const { stdout } = await project().ok([
      'logs',
      '-t',
      '--since',
      `${before / 1_000_000_000n}.${String(before % 1_000_000_000n).padStart(9, '0')}`,
      'bell',
    ]);
    const found = [...stdout.matchAll(/^(\S+Z) (.*)$/gm)].map(([, time = '', text]) => ({
      ms: Date.parse(time),
      text,
    }));
    expect(found.map(({ text }) => text)).toEqual(['bell anew', 'and on']);
    for (const { ms } of found) expect(ms >= Number(before / 1_000_000n) && ms <= after, stdout).toBe(true);
    expect((await project().ok('logs --until 1h bell')).stdout).toBe('');
  });

  test('is followed to its end also where no agent is left to note that', async () => {
    const follower = project().start('logs -f --tail 1 bell', { input: '' });
    await follower.prints(/and on\n/);
    await killNow(project().agentPid() ?? 0);
    say('bell', 'alone\n');
    await follower.prints(/alone\n/);
    await killNow(project().machinePid('bell'));
    expect(await follower.result).toEqual({ code: 0, stdout: 'and on\nalone\n', stderr: '' });
  });

  test('is followed over restarts, until there are no more, and events tell of each', async () => {
    await project().ok('up fails');
    const follower = project().start('logs -f fails', { input: '' });
    await follower.prints(/run\n/);
    say('fail', '');
    expect(await follower.result).toEqual({ code: 0, stdout: 'run\nrun\nrun\n', stderr: '' });
    const words = (await project().ok('events fails')).stdout.replace(/^.*? {2}fails {2}/gm, '').split('\n');
    expect(words.filter((line) => /ended|restarts|again/.test(line))).toEqual([
      'ended with 3',
      'restarts in 0.1 s (1st time)',
      'ended with 3',
      'restarts in 0.2 s (2nd time)',
      'ended with 3',
      'is not started again after 2 times',
    ]);
  });

  test('of a container that ends is followed to its end, and no further', async () => {
    await project().tsv('up done', { timeoutMs: 60_000 });
    expect(await project().tsv('logs -f done')).toEqual({ code: 0, stdout: 'finished\n', stderr: '' });
  });
});

describe('what was printed', () => {
  const second = 1_767_268_865n;
  const at = (seconds: number) => (second + BigInt(seconds)) * 1_000_000_000n + 5n;
  const big = 1_000_000;
  const project = sharedFixture(
    'what was printed',
    { 'Tsfile.yaml': tsfile.replace('project: talk', 'project: past'), 'said/a': '', 'said/bell': '' },
    {
      prepare: async (made) => {
        await made.ok('up a bell');
        await made.ok('halt --force');
        for (const name of ['a', 'bell'])
          for (const file of ['console.log', 'console.times']) rmSync(join(logDir(made, name), file), { force: true });
        const a = new ConsoleFiles(logDir(made, 'a'));
        a.print('a at 1\n', at(1)).print('a at 3\n', at(3)).rotate().print('a at 5, un', at(5)).print('done\n', at(9));
        new ConsoleFiles(logDir(made, 'bell')).print('b at 2\nb too\n', at(2)).print('b at 6\n', at(6));
      },
    },
  );
  const logs = async (args: string) => (await project().ok(`logs ${args}`.trim())).stdout;

  test('by several machines is merged by time, with their names', async () => {
    expect(await logs('')).toBe(
      'a    | a at 1\nbell | b at 2\nbell | b too\na    | a at 3\na    | a at 5, undone\nbell | b at 6\n',
    );
    expect(await logs('--no-prefix bell a')).toBe('a at 1\nb at 2\nb too\na at 3\na at 5, undone\nb at 6\n');
    const coloured = await project().ok('logs --tail 1', { env: { FORCE_COLOR: '1' } });
    expect(coloured.stdout).toBe('\x1b[36ma    | \x1b[39ma at 5, undone\n\x1b[33mbell | \x1b[39mb at 6\n');
    expect((await project().ok('logs --tail 1 --no-color', { env: { FORCE_COLOR: '1' } })).stdout).not.toContain(
      '\x1b',
    );
  });

  test('has its time with it, and may be chosen by time and number', async () => {
    expect(await logs('-t a')).toBe(
      '2026-01-01T12:01:06.000000005Z a at 1\n2026-01-01T12:01:08.000000005Z a at 3\n2026-01-01T12:01:10.000000005Z a at 5, undone\n',
    );
    expect(await logs('-t -n 1 a bell')).toBe(
      'a    | 2026-01-01T12:01:10.000000005Z a at 5, undone\nbell | 2026-01-01T12:01:11.000000005Z b at 6\n',
    );
    expect(await logs('--since 2026-01-01T12:01:08Z a')).toBe('a at 3\na at 5, undone\n');
    expect(await logs(`--until ${second + 4n} --no-prefix`)).toBe('a at 1\nb at 2\nb too\na at 3\n');
    expect(await logs(`--until ${second + 4n} --tail 1 --no-prefix`)).toBe('b too\na at 3\n');
    expect(await logs('--since 1h --tail all')).toBe('');
  });

  test('is followed to its end at once where nothing runs', async () => {
    expect(await logs('-f -n 1 --no-prefix')).toBe('a at 5, undone\nb at 6\n');
  });

  test('without times comes first, and that is said once', async () => {
    appendFileSync(join(logDir(project(), 'bell'), 'console.log'), 'later\n');
    rmSync(join(logDir(project(), 'bell'), 'console.times'));
    const { stdout, stderr } = await project().ok('logs --no-prefix');
    expect(stdout).toBe('b at 2\nb too\nb at 6\nlater\na at 1\na at 3\na at 5, undone\n');
    expect(stderr.match(/bell printed has no times/g)?.length).toBe(1);
    expect((await project().ok('logs bell')).stderr).toBe('');
    expect(await logs('--since 2020-01-01 bell')).toBe('');
  });

  test('is refused with the nearest names, and with what a time looks like', async () => {
    const unknown = await project().tsv('logs belt');
    expect([unknown.code, unknown.stderr]).toEqual([1, expect.stringContaining('bell')]);
    const wrong = await project().tsv('logs --since yesterday');
    expect([wrong.code, wrong.stderr]).toEqual([1, expect.stringContaining('10m')]);
  });

  test('in a million lines goes to a reader that soon has enough', async () => {
    const lines = Array.from({ length: big }, (_, n) => `line ${n}\n`).join('');
    const folder = logDir(project(), 'a');
    for (const name of readdirSync(folder)) if (name.startsWith('console.')) rmSync(join(folder, name));
    writeFileSync(join(folder, 'console.log'), lines);
    for (const options of ['a', '', '-f a']) {
      const { code, stdout, stderr } = await project().run([
        'bash',
        '-c',
        `${tsv} logs ${options} 2>/dev/null | head -n 2; echo "\${PIPESTATUS[0]}"`,
      ]);
      expect([code, stdout.split('\n').at(-2), stderr]).toEqual([0, '0', '']);
    }
    expect(await logs(`-n 2 a`)).toBe(`line ${big - 2}\nline ${big - 1}\n`);
    expect((await project().run(['sh', '-c', `${tsv} logs a | sha256sum`])).stdout.slice(0, 64)).toBe(sha256(lines));
  });
});

describe('the events of a project', () => {
  const project = sharedFixture('the events of a project', {
    'Tsfile.yaml': tsfile.replace('project: talk', 'project: news'),
    'said/a': '',
    'said/bell': '',
  });

  test('are told as they happen, from before the first machine to after the last one', async () => {
    const follower = project().start('events -f', { input: '' });
    const json = project().start('events -f --json a', { input: '' });
    await project().ok('up a bell');
    await follower.prints(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d {2}bell +started$/m);
    const kept = (await project().ok('events --since 5m a')).stdout;
    expect(kept.replace(/^.*? {2}/gm, '')).toBe('a  created\na  started\na  ready\n');
    expect((await project().ok('events --until 2026-01-01 bell')).stdout).toBe('');
    await project().ok('halt --force a');
    await project().ok('destroy -f');
    await follower.prints(/^.* {2}bell +destroyed$/m);
    await json.prints(/"destroyed"/);
    json.signal('SIGINT');
    follower.signal('SIGINT');
    expect((await follower.result).code).toBe(130);
    const events = (await json.result).stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { time: string; machine: string; event: { type: string } });
    expect(events.map(({ machine: name, event }) => `${name} ${event.type}`)).toEqual([
      'a created',
      'a started',
      'a ready',
      'a stopped',
      'a destroyed',
    ]);
    expect((await project().ok('events')).stdout).toBe('');
    expect((await project().tsv('events nobody')).stderr).toContain('nobody');
  });
});
