import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { get, killNow, tsvProgram } from '../support/cli.ts';
import { freePort, sharedFixture } from '../support/fixture.ts';
import { until } from '../support/until.ts';

/** A web server of perl-base, which every Debian has: answers each request with the machine's name. */
const server = `
use IO::Socket::INET; use Sys::Hostname;
my $listener = IO::Socket::INET->new(LocalPort => 8000, Listen => 16, ReuseAddr => 1) or die $!;
$| = 1; print "serving\\n";
while (my $client = $listener->accept) {
  while (<$client>) { last if /^\\r?$/ }
  my $text = hostname() . "\\n";
  print $client "HTTP/1.0 200 OK\\r\\nContent-Length: " . length($text) . "\\r\\n\\r\\n$text";
  close $client; print "answered\\n";
}
`;

const tsfile = `
version: 1
project: shop
networks:
  default: { mode: nat }
  backend: { mode: isolated, subnet: 10.99.7.0/24 }
defaults: { memory: 64M }
machines:
  web:
    image: debian-12
    replicas: 2
    networks: [backend]
    share: [{ host: ./site, guest: /srv/site, readonly: true }]
  front:
    image: debian-12
    networks: [default, { name: backend, address: 10.99.7.20 }]
    share: [{ host: ./site, guest: /srv/site }]
    forwards: ["\${PORT}:8000"]
    env: { COLOUR: blue }
    command: [perl, /srv/site/server.pl]
    healthcheck: { exec: [curl, -sf, "http://127.0.0.1:8000/"], every: 100ms }
`;

describe('a project of containers', () => {
  let port = 0;
  const project = sharedFixture(
    'a project of containers',
    { 'Tsfile.yaml': tsfile, 'site/server.pl': server, 'site/note.txt': 'shared\n' },
    {
      env: async () => {
        port = await freePort();
        return { PORT: String(port) };
      },
      prepare: (made) => made.ok('up'),
    },
  );

  test('is shown by status with states, addresses and forwards', async () => {
    const { machines } = await project().status();
    expect(machines.map(({ machine, kind, state }) => ({ machine, kind, state }))).toEqual([
      { machine: 'web-1', kind: 'container', state: 'running' },
      { machine: 'web-2', kind: 'container', state: 'running' },
      { machine: 'front', kind: 'container', state: 'running' },
    ]);
    const front = machines[2];
    expect(front?.addresses.backend).toBe('10.99.7.20');
    expect(front?.forwards).toEqual([`127.0.0.1:${port}->8000`]);
    const table = (await project().ok('status')).stdout;
    expect(table).toMatch(/web-1 +container +running/);
  });

  test('is not touched by a second up, and plan says so with exit code 0', async () => {
    const before = project().state();
    const { stderr } = await project().ok('up');
    expect(stderr).toContain('Everything is as the Tsfile says');
    expect((await project().tsv('plan')).code).toBe(0);
    expect(project().state()).toEqual(before);
  });

  test('is found from a folder below', async () => {
    mkdirSync(join(project().dir, 'a', 'b'), { recursive: true });
    const { stdout } = await project().ok(['--chdir', 'a/b', 'exec', 'web-1', '--', 'hostname']);
    expect(stdout).toBe('web-1\n');
  });

  test('runs commands with their own exit codes, output and input', async () => {
    expect(
      await project().tsv(['exec', 'web-1', '--', 'sh', '-c', 'cat; echo oops >&2; exit 42'], { input: 'one\ntwo' }),
    ).toEqual({
      code: 42,
      stdout: 'one\ntwo',
      stderr: 'oops\n',
    });
    expect((await project().tsv('exec web-1 -- true')).code).toBe(0);
  });

  test('answers 127 for a command that does not exist, and names it', async () => {
    const { code, stderr } = await project().tsv('exec web-1 -- no-such-command');
    expect(code).toBe(127);
    expect(stderr).toContain("web-1 has no command 'no-such-command'");
  });

  test('passes arguments on as they are', async () => {
    const words = ['a b', '$HOME', "it's", '*', '', '--help', ';exit 9'];
    const { stdout } = await project().ok(['exec', 'web-1', '--', 'printf', '[%s]', ...words]);
    expect(stdout).toBe(words.map((word) => `[${word}]`).join(''));
  });

  test('runs commands as a user, in a folder, with variables', async () => {
    const { stdout } = await project().ok([
      'exec',
      '-u',
      'tsv',
      '-w',
      '/tmp',
      '-e',
      'SIZE=big',
      'front',
      '--',
      'sh',
      '-c',
      'echo $(id -un) $PWD $SIZE $COLOUR',
    ]);
    expect(stdout).toBe('tsv /tmp big blue\n');
  });

  test('carries a large stream in and out unchanged', async () => {
    const text = Array.from({ length: 200_000 }, (_, i) => `line ${i}\n`).join('');
    const { stdout } = await project().ok('exec web-1 -- cat', { input: text });
    expect(stdout === text, `${stdout.length} of ${text.length} bytes`).toBe(true);
  });

  test('runs a command line in a login shell with ssh -c', async () => {
    const { code, stdout } = await project().tsv([
      'ssh',
      'web-2',
      '-c',
      'echo "$(hostname) $HOME" | tr a-z A-Z; exit 3',
    ]);
    expect({ code, stdout }).toEqual({ code: 3, stdout: 'WEB-2 /ROOT\n' });
    expect((await project().tsv(['ssh', 'web-2', '--', 'exit', '4'])).code).toBe(4);
  });

  test('gives a shell on a terminal, which knows its size', async () => {
    const shell = project().startOnTerminal('ssh web-1');
    shell.write('stty size; tty; exit 5\n');
    const { code, stdout } = await shell.result;
    expect(stdout).toMatch(/\/dev\/pts\/\d/);
    expect(stdout).toMatch(/^\d+ \d+\r?$/m);
    expect(code).toBe(5);
  });

  test('ends a command on its terminal at Ctrl-C', async () => {
    const command = project().startOnTerminal(['exec', 'web-1', '--', 'sh', '-c', 'echo started; exec sleep 1000']);
    await command.prints(/started/);
    command.write('\x03');
    expect((await command.result).code).toBe(130);
    expect((await project().tsv('exec web-1 -- pgrep -x sleep')).code).toBe(1);
  });

  test('ends a command whose tsv exec was killed, though it says nothing, or whose output nobody reads', async () => {
    const silent = project().start(['exec', 'web-1', '--', 'sh', '-c', 'echo up; sleep 987']);
    await silent.prints(/up/);
    await killNow(silent.pid);
    const tsv = `'${process.execPath}' '${tsvProgram}'`;
    expect((await project().run(['sh', '-c', `${tsv} exec web-1 -- yes 986 | head -n 1`])).stdout).toBe('986\n');
    await until('they are gone', async () => !/98[67]/.test((await project().ok('top web-1')).stdout));
  });

  test('is reached by the real ssh, scp, sftp and rsync with ssh-config', async () => {
    const { dir } = project();
    const bin = join(dir, 'bin');
    mkdirSync(bin, { recursive: true });
    const config = (await project().ok('ssh-config')).stdout;
    writeFileSync(join(dir, 'ssh.conf'), config);
    const must = async (...argv: string[]) => {
      const result = await project().run(argv);
      expect(result.code, `${argv.join(' ')}\n${result.stdout}${result.stderr}`).toBe(0);
      return result.stdout;
    };
    expect(await must('ssh', '-F', 'ssh.conf', 'web-1', 'hostname; exit 0')).toBe('web-1\n');
    expect((await project().run(['ssh', '-F', 'ssh.conf', 'web-1', 'exit 9'])).code).toBe(9);

    const text = 'copied\n'.repeat(50_000);
    writeFileSync(join(dir, 'out.txt'), text);
    await must('scp', '-F', 'ssh.conf', 'out.txt', 'web-1:/tmp/scp.txt');
    await must('scp', '-F', 'ssh.conf', 'web-1:/tmp/scp.txt', 'back.txt');
    expect(readFileSync(join(dir, 'back.txt'), 'utf8') === text).toBe(true);

    writeFileSync(join(dir, 'batch'), 'put out.txt /tmp/sftp.txt\nls -l /tmp/sftp.txt\n');
    expect(await must('sftp', '-F', 'ssh.conf', '-b', 'batch', 'web-1')).toContain('350000');

    await must('rsync', '-a', '-e', 'ssh -F ssh.conf', 'site/', 'web-1:/tmp/site/');
    expect(await must('ssh', '-F', 'ssh.conf', 'web-1', 'cat /tmp/site/note.txt')).toBe('shared\n');
  });

  test('knows its machines by name, by name and project, and by replica group', async () => {
    const { project: name, machines } = await project().status();
    const address = (machine: string) => machines.find((entry) => entry.machine === machine)?.addresses.backend;
    const lookUp = async (host: string) => {
      const { stdout } = await project().ok(['exec', 'front', '--', 'getent', 'ahostsv4', host]);
      return [
        ...new Set(
          stdout
            .trim()
            .split('\n')
            .map((line) => line.split(' ')[0]),
        ),
      ].sort();
    };
    expect(await lookUp('web-1')).toEqual([address('web-1')]);
    expect(await lookUp(`web-2.${name}`)).toEqual([address('web-2')]);
    expect(await lookUp('web')).toEqual([address('web-1'), address('web-2')].sort());
    expect((await project().ok('exec web-1 -- curl -sf --max-time 5 http://front:8000/')).stdout).toBe('front\n');
  });

  test('has no way out of an isolated network', async () => {
    expect((await project().ok('exec web-1 -- ip -4 route show default')).stdout).toBe('');
    expect((await project().tsv('exec web-1 -- ip route get 198.51.100.9')).code).not.toBe(0);
    expect((await project().ok('exec front -- ip -4 route show default')).stdout).toMatch(/^default via /);
  });

  test('shows its shared folder, writable only where it may be', async () => {
    expect((await project().ok('exec web-1 -- cat /srv/site/note.txt')).stdout).toBe('shared\n');
    const refused = await project().tsv(['exec', 'web-1', '--', 'sh', '-c', 'echo no >/srv/site/refused']);
    expect(refused.stderr).toMatch(/[Rr]ead-only file system/);
    await project().ok(['exec', 'front', '--', 'sh', '-c', 'echo yes >/srv/site/made-inside']);
    expect(readFileSync(join(project().dir, 'site', 'made-inside'), 'utf8')).toBe('yes\n');
    expect(existsSync(join(project().dir, 'site', 'refused'))).toBe(false);
  });

  test('is reached through its forwarded port, by many at once', async () => {
    const answers = await Promise.all(Array.from({ length: 20 }, () => get(port)));
    expect(new Set(answers)).toEqual(new Set(['front\n']));
    expect((await project().ok('port front')).stdout).toBe(`8000 -> 127.0.0.1:${port}\n`);
    expect((await project().ok('port front 8000')).stdout).toBe(`127.0.0.1:${port}\n`);
  });

  test('shows what a container prints, also as it comes', async () => {
    expect((await project().ok('logs front')).stdout).toContain('serving\n');
    const follower = project().start('logs --follow front', { input: '' });
    await follower.prints(/serving/);
    const seen = follower.output().stdout.split('answered').length;
    await get(port);
    await follower.prints(new RegExp(`(?:answered\\s*){${seen}}`));
    follower.signal('SIGINT');
    await follower.result;
  });

  test('cannot be seen, counted or named from inside one of its containers', async () => {
    const { stdout } = await project().ok([
      'exec',
      'web-1',
      '--',
      'sh',
      '-c',
      'ls /proc | grep -c "^[0-9]"; hostname; ip -o link | wc -l',
    ]);
    const [processes, hostname, links] = stdout.trim().split('\n');
    expect(Number(processes)).toBeLessThan(8);
    expect(hostname).toBe('web-1');
    expect(links).toBe('2');
  });
});
