import { describe, expect, test } from 'vitest';
import { readCommandLine } from '../../../src/cli/oci/command-line.ts';
import { commands } from '../../../src/cli/oci/commands.ts';
import { helpText } from '../../../src/cli/oci/help.ts';
import { TsvError } from '../../../src/model/errors.ts';

const words = (line: string): string[] => (line === '' ? [] : line.split(' '));

function read(line: string) {
  const { global, read: rest } = readCommandLine(words(line));
  return { global, ...rest() };
}

function errorOf(line: string): TsvError {
  try {
    read(line);
  } catch (error) {
    if (error instanceof TsvError) return error;
    throw error;
  }
  throw new Error(`${line} is not refused`);
}

describe('command lines that others write', () => {
  test.each([
    [
      'containerd creates',
      '--root /run/docker/runtime-tsv/moby --log /b/log.json --log-format json create --bundle /b --pid-file /b/init.pid --console-socket /t/pty.sock --no-pivot --no-new-keyring ID',
      {
        global: { root: '/run/docker/runtime-tsv/moby', log: '/b/log.json', 'log-format': 'json' },
        command: 'create',
        options: {
          bundle: '/b',
          'pid-file': '/b/init.pid',
          'console-socket': '/t/pty.sock',
          'no-pivot': true,
          'no-new-keyring': true,
        },
        args: ['ID'],
      },
    ],
    [
      'containerd executes',
      '--root /r --log /l --log-format json --systemd-cgroup exec --process /tmp/p --console-socket /s --detach --pid-file /x.pid ID',
      {
        global: { root: '/r', log: '/l', 'log-format': 'json', 'systemd-cgroup': true },
        command: 'exec',
        options: { process: '/tmp/p', 'console-socket': '/s', detach: true, 'pid-file': '/x.pid' },
        args: ['ID'],
      },
    ],
    [
      'containerd kills',
      '--root /r kill --all ID 9',
      { global: { root: '/r' }, command: 'kill', options: { all: true }, args: ['ID', '9'] },
    ],
    [
      'containerd updates',
      'update --resources=- ID',
      { global: {}, command: 'update', options: { resources: '-' }, args: ['ID'] },
    ],
    [
      'conmon creates',
      '--log-format=json --log=/l create --bundle /b --pid-file /p --preserve-fds 2 ID',
      {
        global: { 'log-format': 'json', log: '/l' },
        command: 'create',
        options: { bundle: '/b', 'pid-file': '/p', 'preserve-fds': 2 },
        args: ['ID'],
      },
    ],
    [
      'podman asks for pids',
      'ps --format json ID',
      { global: {}, command: 'ps', options: { format: 'json' }, args: ['ID'] },
    ],
    [
      'somebody types',
      '-root=/r exec -t -u 1000:5 -g 7 -g 8 -e A=1 --env B=2 -c CAP_NET_RAW ID sh -c x -t',
      {
        global: { root: '/r' },
        command: 'exec',
        options: {
          tty: true,
          user: '1000:5',
          'additional-gids': [7, 8],
          env: ['A=1', 'B=2'],
          cap: ['CAP_NET_RAW'],
        },
        args: ['ID', 'sh', '-c', 'x', '-t'],
      },
    ],
    [
      'somebody types behind the id',
      'delete ID --force',
      { global: {}, command: 'delete', options: { force: true }, args: ['ID'] },
    ],
    [
      'ps has options of its own',
      'ps ID -o pid,comm -f',
      { global: {}, command: 'ps', options: {}, args: ['ID', '-o', 'pid,comm', '-f'] },
    ],
  ])('%s', (_, line, expected) => {
    expect(read(line)).toEqual(expected);
  });
});

describe('a command line that asks about the runtime', () => {
  test.each([
    ['-v', { show: 'version' }],
    ['--version list', { show: 'version' }],
    ['', { show: 'help' }],
    ['--help', { show: 'help' }],
    ['-h state', { show: 'help' }],
    ['help', { show: 'help' }],
    ['h state', { show: 'help', command: 'state' }],
    ['state --help', { show: 'help', command: 'state' }],
    ['exec -h', { show: 'help', command: 'exec' }],
  ])('%j', (line, expected) => {
    expect(read(line)).toMatchObject(expected);
  });

  test('without --version is a command line like others', () => {
    expect(read('--version=false list')).toMatchObject({ command: 'list' });
  });
});

describe('a mistake', () => {
  test.each([
    ['state', '"state" requires exactly 1 argument, and none is given', 'tsv oci state --help', 1],
    ['state a b', '"state" requires exactly 1 argument, and 2 are given', 'tsv oci state --help', 1],
    ['kill a b c', '"kill" requires 1 to 2 arguments, and 3 are given', 'tsv oci kill --help', 1],
    ['exec', '"exec" requires at least 1 argument, and none is given', 'tsv oci exec --help', 1],
    ['list x', '"list" requires exactly 0 arguments, and 1 are given', 'tsv oci list --help', 1],
    ['exec -it c id', 'flag provided but not defined: -it', 'tsv oci exec --help', 1],
    ['--nosuch list', 'flag provided but not defined: -nosuch', 'tsv oci --help', 1],
    ['--root', 'flag needs an argument: -root', 'tsv oci --help', 1],
    ['nosuch', "no command 'nosuch'", 'tsv oci --help', 3],
    ['toString', "no command 'toString'", 'tsv oci --help', 3],
    ['- list', "no command '-'", 'tsv oci --help', 3],
    ['help nosuch', "no command 'nosuch'", 'tsv oci --help', 3],
  ])('%j says what is wrong, where help is, and has an exit code', (line, message, hint, exitCode) => {
    const error = errorOf(line);
    expect({ code: error.code, message: error.message, hint: error.hint, exitCode: error.exitCode }).toEqual({
      code: 'TSV_USAGE',
      message,
      hint,
      exitCode,
    });
  });

  test('in a command leaves the global options readable, which say where it is told', () => {
    const { global, read: rest } = readCommandLine(words('--log /l --log-format json state'));
    expect(global).toEqual({ log: '/l', 'log-format': 'json' });
    expect(rest).toThrow('requires exactly 1 argument');
  });

  test.each(['checkpoint', 'restore'])('%s is refused as what is not possible', (command) => {
    expect(errorOf(command)).toMatchObject({ code: 'TSV_UNSUPPORTED', exitCode: 1 });
  });
});

describe('help', () => {
  test('on all names every command and every global option', () => {
    const text = helpText();
    for (const name of Object.keys(commands)) expect(text).toMatch(new RegExp(`^ {2}${name} +\\w`, 'm'));
    for (const name of ['--root', '--log', '--log-format', '--systemd-cgroup', '--version'])
      expect(text).toContain(name);
  });

  test.each(Object.entries(commands))('on %s names each of its options, and ends its last line', (name, { flags }) => {
    const text = helpText(name as keyof typeof commands);
    expect(text).toContain(`Usage: tsv oci ${name}`);
    for (const flag of Object.keys(flags)) expect(text).toContain(`--${flag}`);
    expect(text.endsWith('\n')).toBe(true);
  });

  test('shows short options and values', () => {
    expect(helpText('kill')).toBe(
      [
        'tsv oci kill: send a signal to the process of a container',
        '',
        'Usage: tsv oci kill [OPTIONS] ID [SIGNAL]',
        '',
        'Options:',
        '  -a, --all  to all processes in the container',
        '',
        'SIGNAL is a name with or without SIG, or a number (default: SIGTERM).',
        '',
      ].join('\n'),
    );
    expect(helpText('spec')).toContain('  -b, --bundle VALUE  folder');
  });
});
