import { describe, expect, test } from 'vitest';
import { duration, type Flags, parseFlags } from '../../../src/cli/oci/flags.ts';
import { TsvError } from '../../../src/model/errors.ts';

const flags = {
  all: { kind: 'switch', short: 'a', help: '' },
  bundle: { kind: 'text', short: 'b', help: '' },
  env: { kind: 'texts', short: 'e', help: '' },
  count: { kind: 'number', help: '' },
  group: { kind: 'numbers', short: 'g', help: '' },
  interval: { kind: 'duration', help: '' },
} as const satisfies Flags;

const parse = (line: string, anywhere = true) => parseFlags(flags, line === '' ? [] : line.split(' '), { anywhere });

function messageOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof TsvError && error.code === 'TSV_USAGE') return error.message;
    throw error;
  }
  return 'no error';
}

describe('options', () => {
  test.each([
    ['-all', { all: true }],
    ['--all', { all: true }],
    ['-a', { all: true }],
    ['--all=false', { all: false }],
    ['-a=F', { all: false }],
    ['-a=1', { all: true }],
    ['--bundle /b', { bundle: '/b' }],
    ['--bundle=/b', { bundle: '/b' }],
    ['-bundle=/b=c', { bundle: '/b=c' }],
    ['-b /b', { bundle: '/b' }],
    ['-b=/b', { bundle: '/b' }],
    ['-b=', { bundle: '' }],
    ['-b -a', { bundle: '-a' }],
    ['-b --', { bundle: '--' }],
    ['-b 1 -b 2', { bundle: '2' }],
    ['-e A=1 --env B=2', { env: ['A=1', 'B=2'] }],
    ['--count -1', { count: -1 }],
    ['--count=+7', { count: 7 }],
    ['--count 0x10', { count: 16 }],
    ['-g 5 --group=6', { group: [5, 6] }],
    ['--interval 500ms', { interval: 500 }],
  ])('%s is read as Go’s flag package reads it', (line, values) => {
    expect(parse(line)).toEqual({ values, rest: [], help: false });
  });

  test('that are not given are absent', () => {
    expect(parse('').values).toEqual({});
  });

  test.each([
    ['--nosuch', 'flag provided but not defined: -nosuch'],
    ['-ab', 'flag provided but not defined: -ab'],
    ['--constructor', 'flag provided but not defined: -constructor'],
    ['---all', 'bad flag syntax: ---all'],
    ['--=x', 'bad flag syntax: --=x'],
    ['-=x', 'bad flag syntax: -=x'],
    ['--bundle', 'flag needs an argument: -bundle'],
    ['-b', 'flag needs an argument: -b'],
    ['-a=maybe', 'invalid boolean value "maybe" for -a: parse error'],
    ['-a=toString', 'invalid boolean value "toString" for -a: parse error'],
    ['--count x', 'invalid value "x" for flag -count: parse error'],
    ['--count 1.5', 'invalid value "1.5" for flag -count: parse error'],
    ['--count 99999999999999999999', 'invalid value "99999999999999999999" for flag -count: parse error'],
    ['-g 8,9', 'invalid value "8,9" for flag -g: parse error'],
    ['--interval 5', 'invalid value "5" for flag -interval: parse error'],
  ])('%s is refused in Go’s words', (line, message) => {
    expect(messageOf(() => parse(line))).toBe(message);
  });
});

describe('arguments', () => {
  test.each([
    ['c1 KILL', ['c1', 'KILL'], {}],
    ['c1 -a KILL', ['c1', 'KILL'], { all: true }],
    ['c1 KILL --all', ['c1', 'KILL'], { all: true }],
    ['c1 -9', ['c1', '-9'], {}],
    ['c1 - ', ['c1', '-', ''], {}],
    ['-a -- c1 -b', ['c1', '-b'], { all: true }],
    ['c1 -- --all', ['c1', '--all'], {}],
  ])('%s may have known options anywhere before --', (line, rest, values) => {
    expect(parse(line)).toEqual({ values, rest, help: false });
  });

  test.each([
    ['-a c1 sh -a', ['c1', 'sh', '-a'], { all: true }],
    ['c1 sh --help', ['c1', 'sh', '--help'], {}],
    ['c1 -- sh', ['c1', '--', 'sh'], {}],
    ['-a -- c1 -b', ['c1', '-b'], { all: true }],
  ])('%s: options end at the first, where a command for somebody else follows', (line, rest, values) => {
    expect(parse(line, false)).toEqual({ values, rest, help: false });
  });

  test.each(['-h', '--help', '-a -h', 'c1 --help'])('%s asks for help', (line) => {
    expect(parse(line).help).toBe(true);
  });
});

test.each([
  ['5s', 5000],
  ['500ms', 500],
  ['1m30s', 90_000],
  ['1.5h', 5_400_000],
  ['250us', 0.25],
  ['0', 0],
  ['-2s', -2000],
  ['', undefined],
  ['5', undefined],
  ['5 s', undefined],
  ['s', undefined],
  ['.s', undefined],
])('the duration %j is %s ms', (text, ms) => {
  expect(duration(text)).toBe(ms);
});
