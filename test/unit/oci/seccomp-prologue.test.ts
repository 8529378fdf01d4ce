import { describe, expect, test } from 'vitest';
import type { OciSeccomp } from '../../../src/oci/spec.ts';
import { answer, arg, I386, profile, type Rule, X86_64 } from './seccomp-interpreter.ts';

// asm/unistd_64.h
const read = 0;
const getpid = 39;
const keyctl = 250;
const x32 = 0x40000000;
// asm/unistd_32.h
const i386 = { getpid: 20, socketcall: 102, ipc: 117, socket: 359, semget: 393 };

describe('a system call that is newer than the profile', () => {
  const rules: Rule[] = [{ action: 'SCMP_ACT_ALLOW', names: ['read', 'keyctl'] }];
  const architectures = ['SCMP_ARCH_X86', 'SCMP_ARCH_X32'];

  test.each(['SCMP_ACT_ERRNO', 'SCMP_ACT_KILL', 'SCMP_ACT_KILL_PROCESS', 'SCMP_ACT_TRAP'])(
    'answers ENOSYS where the default is %s',
    (defaultAction) => {
      const filter = profile(rules, { defaultAction, architectures });
      const others = answer(filter, getpid);
      expect(others).not.toBe('ERRNO 38');
      expect([keyctl, keyctl + 1, 1000, 0x3fffffff].map((nr) => answer(filter, nr))).toEqual([
        'ALLOW',
        ...Array(3).fill('ERRNO 38'),
      ]);
      expect([288, 289, 1000].map((nr) => answer(filter, nr, [], I386))).toEqual(['ALLOW', 'ERRNO 38', 'ERRNO 38']);
      expect([keyctl, keyctl + 1].map((nr) => answer(filter, x32 | nr))).toEqual(['ALLOW', 'ERRNO 38']);
      expect([getpid, i386.getpid].map((nr, i) => answer(filter, nr, [], i === 0 ? X86_64 : I386))).toEqual([
        others,
        others,
      ]);
    },
  );

  test('is let through where the default lets it', () => {
    for (const [defaultAction, expected] of [
      ['SCMP_ACT_ALLOW', 'ALLOW'],
      ['SCMP_ACT_LOG', 'LOG'],
      ['SCMP_ACT_TRACE', 'TRACE 1'],
    ] as const) {
      const filter = profile([{ action: 'SCMP_ACT_KILL' }], { defaultAction, architectures });
      expect([answer(filter, 1000), answer(filter, 1000, [], I386)]).toEqual([expected, expected]);
    }
  });

  test('is counted from all that the profile names, also what it denies', () => {
    const filter = profile([{ action: 'SCMP_ACT_ERRNO', names: ['keyctl'] }], { defaultAction: 'SCMP_ACT_ERRNO' });
    expect([getpid, keyctl, keyctl + 1].map((nr) => answer(filter, nr))).toEqual(['ERRNO 1', 'ERRNO 1', 'ERRNO 38']);
  });

  test('does not bring x32 in, which the profile does not have', () => {
    const filter = profile(rules, { defaultAction: 'SCMP_ACT_ERRNO' });
    expect([x32 | read, x32 | 1000].map((nr) => answer(filter, nr))).toEqual(['KILL_THREAD', 'KILL_THREAD']);
  });

  test('is no socket call of i386, though libseccomp has no number of its own for those', () => {
    const filter = profile([{ action: 'SCMP_ACT_ALLOW', names: ['read', 'socket'] }], {
      defaultAction: 'SCMP_ACT_ERRNO',
      architectures,
    });
    expect([i386.socket, i386.socket + 1].map((nr) => answer(filter, nr, [], I386))).toEqual(['ALLOW', 'ERRNO 38']);
  });
});

describe('socketcall and ipc of i386, whose arguments no filter sees', () => {
  const architectures = ['SCMP_ARCH_X86'];
  const deny = { defaultAction: 'SCMP_ACT_ERRNO', architectures };
  const onlyUnix: Rule = { action: 'SCMP_ACT_ALLOW', names: ['socket'], args: [arg(0, 'EQ', 1)] };
  const others: Rule = { action: 'SCMP_ACT_ALLOW', names: ['bind', 'read', 'shmget', 'keyctl'] };
  const compat = (seccomp: OciSeccomp, nr: number, ...args: number[]) => answer(seccomp, nr, args, I386);

  test('are no way around a rule that allows some sockets', () => {
    const filter = profile([onlyUnix, others], deny);
    expect([compat(filter, i386.socket, 1), compat(filter, i386.socket, 38)]).toEqual(['ALLOW', 'ERRNO 1']);
    expect([1, 2, 3].map((call) => compat(filter, i386.socketcall, call))).toEqual(['ERRNO 1', 'ALLOW', 'ERRNO 1']);
  });

  test('are no way around a rule that denies some sockets', () => {
    const filter = profile(
      [{ action: 'SCMP_ACT_ERRNO', errnoRet: 97, names: ['socket'], args: [arg(1, 'EQ', 5), arg(0, 'EQ', 38)] }],
      { architectures },
    );
    expect([compat(filter, i386.socket, 38, 5), compat(filter, i386.socket, 1, 5)]).toEqual(['ERRNO 97', 'ALLOW']);
    expect([1, 2].map((call) => compat(filter, i386.socketcall, call))).toEqual(['ERRNO 97', 'ALLOW']);
  });

  test('are no way around a rule on semaphores, whatever the version in the upper half', () => {
    const filter = profile([{ action: 'SCMP_ACT_ALLOW', names: ['semget'], args: [arg(0, 'EQ', 7)] }, others], deny);
    expect([compat(filter, i386.semget, 7), compat(filter, i386.semget, 8)]).toEqual(['ALLOW', 'ERRNO 1']);
    expect([2, 0x10002].map((call) => compat(filter, i386.ipc, call))).toEqual(['ERRNO 1', 'ERRNO 1']);
    expect(compat(filter, i386.ipc, 23)).toBe('ALLOW');
  });

  test('are open as a whole to a profile that names them', () => {
    const filter = profile([onlyUnix, others, { action: 'SCMP_ACT_ALLOW', names: ['socketcall'] }], deny);
    expect([1, 2, 3].map((call) => compat(filter, i386.socketcall, call))).toEqual(['ALLOW', 'ALLOW', 'ALLOW']);
  });

  test('are closed as a whole to a profile that denies them, in whatever order it says so', () => {
    const closed: Rule = { action: 'SCMP_ACT_ERRNO', errnoRet: 38, names: ['socketcall'] };
    for (const rules of [
      [closed, onlyUnix, others],
      [onlyUnix, others, closed],
    ]) {
      const filter = profile(rules, deny);
      expect([1, 2, 3, 99].map((call) => compat(filter, i386.socketcall, call))).toEqual(Array(4).fill('ERRNO 38'));
      expect(compat(filter, i386.socket, 1)).toBe('ALLOW');
    }
  });

  test('are not touched by rules without tests', () => {
    const filter = profile([{ action: 'SCMP_ACT_ALLOW', names: ['socket', 'keyctl'] }], deny);
    expect([1, 2].map((call) => compat(filter, i386.socketcall, call))).toEqual(['ALLOW', 'ERRNO 1']);
  });
});
