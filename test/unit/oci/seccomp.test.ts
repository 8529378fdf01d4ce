import { describe, expect, test } from 'vitest';
import type { TsvError } from '../../../src/model/errors.ts';
import { compileSeccomp, seccompNames } from '../../../src/oci/seccomp.ts';
import type { OciSeccomp } from '../../../src/oci/spec.ts';
import { loadLibrary } from '../../../src/sys/libc.ts';
import { libseccompVersion, syscallNumber } from '../../../src/sys/libseccomp.ts';
import { answer, arg, I386, profile, type Rule } from './seccomp-interpreter.ts';

/* Filters are made by the real library and run by a small interpreter of the kernel's BPF: nothing is installed. */

// asm/unistd_64.h
const read = 0;
const socket = 41;
const getpid = 39;
const x32 = 0x40000000;
// asm/unistd_32.h
const i386 = { getpid: 20 };

const mistakeIn = (seccomp: OciSeccomp): string => {
  try {
    compileSeccomp(seccomp);
  } catch (error) {
    return `${(error as TsvError).code} ${(error as TsvError).message}`;
  }
  return expect.fail('it was compiled');
};

describe('an action', () => {
  test.each([
    ['SCMP_ACT_KILL', 'KILL_THREAD'],
    ['SCMP_ACT_KILL_THREAD', 'KILL_THREAD'],
    ['SCMP_ACT_KILL_PROCESS', 'KILL_PROCESS'],
    ['SCMP_ACT_TRAP', 'TRAP'],
    ['SCMP_ACT_ERRNO', 'ERRNO 1'],
    ['SCMP_ACT_TRACE', 'TRACE 1'],
    ['SCMP_ACT_LOG', 'LOG'],
  ])('%s of a rule is %s, and what no rule names is allowed', (action, expected) => {
    const filter = profile([{ action }]);
    expect([answer(filter, getpid), answer(filter, read)]).toEqual([expected, 'ALLOW']);
  });

  test.each([
    ['SCMP_ACT_KILL', 'KILL_THREAD'],
    ['SCMP_ACT_KILL_PROCESS', 'KILL_PROCESS'],
    ['SCMP_ACT_TRAP', 'TRAP'],
    ['SCMP_ACT_ERRNO', 'ERRNO 1'],
    ['SCMP_ACT_TRACE', 'TRACE 1'],
    ['SCMP_ACT_LOG', 'LOG'],
  ])('%s as the default is %s, and a rule allows', (defaultAction, expected) => {
    const filter = profile([{ action: 'SCMP_ACT_ALLOW', names: ['getpid', 'keyctl'] }], { defaultAction });
    expect([answer(filter, getpid), answer(filter, read)]).toEqual(['ALLOW', expected]);
  });

  test('returns the error number that the profile gives', () => {
    const filter = profile(
      [
        { names: ['getpid', 'keyctl'], action: 'SCMP_ACT_ERRNO', errnoRet: 100 },
        { names: ['read'], action: 'SCMP_ACT_ERRNO', errnoRet: 0 },
        { names: ['socket'], action: 'SCMP_ACT_TRACE', errnoRet: 7 },
      ],
      { defaultAction: 'SCMP_ACT_ERRNO', defaultErrnoRet: 38 },
    );
    expect([getpid, read, socket, 200].map((nr) => answer(filter, nr))).toEqual([
      'ERRNO 100',
      'ERRNO 0',
      'TRACE 7',
      'ERRNO 38',
    ]);
  });

  test('that is the default one needs no rule, and is no conflict', () => {
    const filter = profile([{ action: 'SCMP_ACT_ERRNO' }, { action: 'SCMP_ACT_ALLOW', names: ['read', 'keyctl'] }], {
      defaultAction: 'SCMP_ACT_ERRNO',
    });
    expect([answer(filter, getpid), answer(filter, read)]).toEqual(['ERRNO 1', 'ALLOW']);
  });
});

describe('a test of an argument', () => {
  const max = 0xffff_ffff_ffff_ffffn;
  const values = [0n, 1n, 5n, 0xffff_ffffn, 0x1_0000_0000n, 0x1_0000_0005n, 1n << 53n, max - 1n, max];
  const operators: Readonly<Record<string, (a: bigint, b: bigint) => boolean>> = {
    NE: (a, b) => a !== b,
    LT: (a, b) => a < b,
    LE: (a, b) => a <= b,
    EQ: (a, b) => a === b,
    GE: (a, b) => a >= b,
    GT: (a, b) => a > b,
  };

  test.each(Object.keys(operators))('%s compares all 64 bits', (op) => {
    const holds = operators[op] ?? expect.fail();
    // 2^64 - 1 arrives from JSON as 2^64.
    for (const [value, meant] of [
      [0, 0n],
      [5, 5n],
      [2 ** 32, 1n << 32n],
      [2 ** 32 + 5, (1n << 32n) + 5n],
      [2 ** 64, max],
    ] as const) {
      const filter = profile([{ action: 'SCMP_ACT_ERRNO', args: [arg(2, op, value)] }]);
      for (const given of values) {
        expect(answer(filter, getpid, [0, 0, given]), `${given} ${op} ${meant}`).toBe(
          holds(given, meant) ? 'ERRNO 1' : 'ALLOW',
        );
      }
    }
  });

  test('MASKED_EQ compares what is under the mask, in both halves', () => {
    const mask = 0xff_0000_00ff;
    const filter = profile([{ action: 'SCMP_ACT_ERRNO', args: [arg(5, 'MASKED_EQ', mask, 0x12_0000_0034)] }]);
    const given = (value: bigint) => answer(filter, getpid, [0, 0, 0, 0, 0, value]);
    expect([0x12_0000_0034n, 0x3412_5678_9a34n, max].map(given)).toEqual(['ERRNO 1', 'ERRNO 1', 'ALLOW']);
    expect([0x12_0000_0035n, 0x13_0000_0034n, 0x34n].map(given)).toEqual(['ALLOW', 'ALLOW', 'ALLOW']);
  });

  test('without a second value means zero under the mask', () => {
    const filter = profile([{ action: 'SCMP_ACT_ERRNO', args: [arg(0, 'MASKED_EQ', 0xf0)] }]);
    expect([answer(filter, getpid, [0x0f]), answer(filter, getpid, [0x1f])]).toEqual(['ERRNO 1', 'ALLOW']);
  });

  test('and others of other arguments have to hold together', () => {
    const filter = profile([{ action: 'SCMP_ACT_ERRNO', args: [arg(0, 'EQ', 1), arg(1, 'GT', 7)] }]);
    const both = [
      [1, 8],
      [1, 7],
      [2, 8],
    ].map((args) => answer(filter, getpid, args));
    expect(both).toEqual(['ERRNO 1', 'ALLOW', 'ALLOW']);
  });

  test('and another of the same argument are alternatives', () => {
    const filter = profile([{ action: 'SCMP_ACT_ERRNO', args: [arg(0, 'EQ', 1), arg(0, 'EQ', 9), arg(1, 'EQ', 5)] }]);
    const each = [
      [1, 0],
      [9, 0],
      [3, 5],
      [3, 0],
    ].map((args) => answer(filter, getpid, args));
    expect(each).toEqual(['ERRNO 1', 'ERRNO 1', 'ERRNO 1', 'ALLOW']);
  });

  test('in one of several rules for a call is an alternative, each with its action', () => {
    const filter = profile([
      { action: 'SCMP_ACT_ERRNO', errnoRet: 11, args: [arg(0, 'EQ', 1)] },
      { action: 'SCMP_ACT_ERRNO', errnoRet: 12, args: [arg(0, 'EQ', 2)] },
      { action: 'SCMP_ACT_KILL', args: [arg(0, 'EQ', 3)] },
    ]);
    expect([1, 2, 3, 4].map((value) => answer(filter, getpid, [value]))).toEqual([
      'ERRNO 11',
      'ERRNO 12',
      'KILL_THREAD',
      'ALLOW',
    ]);
  });
});

describe('architectures', () => {
  const rules = [{ action: 'SCMP_ACT_ERRNO' }];
  const all = ['SCMP_ARCH_X86', 'SCMP_ARCH_X86_64', 'SCMP_ARCH_X32'];

  test('are x86-64 alone when the profile names none: others die', () => {
    const filter = profile(rules);
    expect(answer(filter, getpid)).toBe('ERRNO 1');
    expect(answer(filter, i386.getpid, [], I386)).toBe('KILL_THREAD');
    expect(answer(filter, x32 | getpid)).toBe('KILL_THREAD');
    expect(answer(filter, 172, [], 0xc00000b7)).toBe('KILL_THREAD');
  });

  test('always have x86-64', () => {
    const filter = profile(rules, { architectures: ['SCMP_ARCH_X86'] });
    expect([answer(filter, getpid), answer(filter, i386.getpid, [], I386)]).toEqual(['ERRNO 1', 'ERRNO 1']);
  });

  test('have their own numbers', () => {
    const filter = profile(rules, { architectures: all });
    expect(answer(filter, i386.getpid, [], I386)).toBe('ERRNO 1');
    expect(answer(filter, getpid, [], I386)).toBe('ALLOW');
    expect(answer(filter, x32 | getpid)).toBe('ERRNO 1');
    expect(answer(filter, x32 | read)).toBe('ALLOW');
  });

  test('of other machines are accepted, and change nothing', () => {
    const foreign = seccompNames.architectures.filter((name) => !all.includes(name));
    expect(foreign).toContain('SCMP_ARCH_AARCH64');
    expect(compileSeccomp(profile(rules, { architectures: foreign })).filter).toEqual(
      compileSeccomp(profile(rules)).filter,
    );
  });
});

describe('a profile', () => {
  test('may name calls that libseccomp does not know', () => {
    const filter = profile([{ action: 'SCMP_ACT_ALLOW', names: ['read', 'no_such_call'] }], {
      defaultAction: 'SCMP_ACT_ERRNO',
    });
    expect(answer(filter, read)).toBe('ALLOW');
    expect(compileSeccomp(filter).warnings).toEqual([]);
  });

  test('hears of it when such a call was to be denied', () => {
    const { version } = libseccompVersion();
    expect(compileSeccomp(profile([{ action: 'SCMP_ACT_KILL', names: ['read', 'no_such_call'] }])).warnings).toEqual([
      `linux.seccomp.syscalls[0].names[1]: libseccomp ${version} does not know 'no_such_call': the default action holds for it`,
    ]);
  });

  test('may say the same twice', () => {
    const once: Rule = { action: 'SCMP_ACT_ERRNO', names: ['getpid', 'getpid'] };
    expect(answer(profile([once, once]), getpid)).toBe('ERRNO 1');
  });

  test('without rules is its default action', () => {
    expect(answer({ defaultAction: 'SCMP_ACT_ERRNO' }, read)).toBe('ERRNO 1');
    expect(answer({ defaultAction: 'SCMP_ACT_ERRNO' }, 1000)).toBe('ERRNO 1');
  });

  test('gives the flags of seccomp(2); without a list, the one that runc and crun set', () => {
    const flags = (...names: string[]) =>
      compileSeccomp(profile([], { flags: names.map((name) => `SECCOMP_FILTER_FLAG_${name}`) })).flags;
    expect(compileSeccomp(profile([])).flags).toBe(4);
    expect([flags(), flags('TSYNC'), flags('LOG'), flags('SPEC_ALLOW', 'LOG')]).toEqual([0, 0, 2, 6]);
  });

  test('hears of a flag that has no effect', () => {
    const { flags, warnings } = compileSeccomp(profile([], { flags: ['SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV'] }));
    expect(flags).toBe(0);
    expect(warnings).toEqual([
      'linux.seccomp.flags[0]: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV has no effect without a listener',
    ]);
  });

  test('is made into a filter once', () => {
    const make = () => compileSeccomp(profile([{ action: 'SCMP_ACT_ERRNO', errnoRet: 77 }]));
    expect(make()).toBe(make());
    expect(make()).not.toBe(compileSeccomp(profile([{ action: 'SCMP_ACT_ERRNO', errnoRet: 78 }])));
    expect(make().length).toBe(make().filter.length / 8);
  });

  test.each<[string, OciSeccomp, string]>([
    ['an unknown default', { defaultAction: 'SCMP_ACT_MAYBE' }, "defaultAction: 'SCMP_ACT_MAYBE' is not known"],
    ['an inherited name', { defaultAction: 'toString' }, "defaultAction: 'toString' is not known"],
    [
      'a listener',
      { defaultAction: 'SCMP_ACT_ALLOW', listenerPath: '/run/x.sock' },
      'listenerPath: filters that ask another process (SCMP_ACT_NOTIFY) are not supported',
    ],
    [
      'NOTIFY',
      profile([{ action: 'SCMP_ACT_LOG' }, { action: 'SCMP_ACT_NOTIFY' }]),
      'syscalls[1].action: SCMP_ACT_NOTIFY, asking another process, is not supported',
    ],
    [
      'an error number that cannot be returned',
      profile([{ action: 'SCMP_ACT_KILL', errnoRet: 1 }]),
      'syscalls[0].errnoRet: SCMP_ACT_KILL returns no error number',
    ],
    [
      'a default error number that cannot be returned',
      profile([], { defaultErrnoRet: 1 }),
      'defaultErrnoRet: SCMP_ACT_ALLOW returns no error number',
    ],
    [
      'an error number beyond the field',
      profile([{ action: 'SCMP_ACT_ERRNO', errnoRet: 65536 }]),
      'syscalls[0].errnoRet: 65536 is no whole number from 0 to 65535',
    ],
    [
      'a seventh argument',
      profile([{ action: 'SCMP_ACT_KILL', args: [arg(0, 'EQ', 1), arg(6, 'EQ', 1)] }]),
      'syscalls[0].args[1].index: 6 is no whole number from 0 to 5',
    ],
    [
      'an unknown operator',
      profile([{ action: 'SCMP_ACT_KILL', args: [{ index: 0, op: 'EQ', value: 1 }] }]),
      "syscalls[0].args[0].op: 'EQ' is not known",
    ],
    [
      'a negative value',
      profile([{ action: 'SCMP_ACT_KILL', args: [arg(0, 'EQ', -1)] }]),
      'syscalls[0].args[0].value: -1 is no whole number from 0 to 2^64 - 1',
    ],
    [
      'a broken second value',
      profile([{ action: 'SCMP_ACT_KILL', args: [arg(0, 'MASKED_EQ', 1, 0.5)] }]),
      'syscalls[0].args[0].valueTwo: 0.5 is no whole number from 0 to 2^64 - 1',
    ],
    [
      'an unknown architecture',
      profile([], { architectures: ['SCMP_ARCH_X86', 'x86_64'] }),
      "architectures[1]: 'x86_64' is not known",
    ],
    ['an unknown flag', profile([], { flags: ['TSYNC'] }), "flags[0]: 'TSYNC' is not known"],
    [
      'no name',
      profile([{ action: 'SCMP_ACT_KILL', names: ['read', ''] }]),
      "syscalls[0].names[1]: '' is no name of a system call",
    ],
  ])('with %s is refused where it says so', (_, seccomp, message) => {
    expect(mistakeIn(seccomp)).toBe(`TSV_SECCOMP linux.seccomp.${message}`);
  });

  test('is refused when it is longer than the kernel takes', () => {
    const names = Array.from({ length: 300 }, (_, nr) => nr);
    const rules = names.map(
      (value): Rule => ({
        action: 'SCMP_ACT_ERRNO',
        args: [arg(0, 'EQ', value * 2 ** 33), arg(1, 'EQ', value * 2 ** 34), arg(2, 'EQ', value), arg(3, 'EQ', value)],
      }),
    );
    expect(mistakeIn(profile(rules))).toMatch(/^TSV_SECCOMP linux\.seccomp: the filter would have \d{4} instructions$/);
  });

  test('is looked for at the path that the caller names', () => {
    expect(() => compileSeccomp({ defaultAction: '' }, 'seccomp.json')).toThrow('seccomp.json.defaultAction');
  });
});

describe('libseccomp', () => {
  test('says its version', () => {
    expect(libseccompVersion()).toEqual({
      version: expect.stringMatching(/^2\.\d+\.\d+$/),
      apiLevel: expect.any(Number),
    });
  });

  test('knows the numbers of each architecture', () => {
    expect([syscallNumber('read'), syscallNumber('read', 'x86'), syscallNumber('read', 'x32')]).toEqual([0, 3, x32]);
    expect(syscallNumber('chown32')).toBeLessThan(-1);
    expect(syscallNumber('no_such_call')).toBeUndefined();
  });

  test('would be missed by an error of the loader, as would one of its functions', () => {
    expect(() => loadLibrary('libno-such-library.so.9', {})).toThrow('cannot open shared object file');
    expect(() => loadLibrary('libseccomp.so.2', { f: 'int no_such_function()' })).toThrow('no_such_function');
  });
});
