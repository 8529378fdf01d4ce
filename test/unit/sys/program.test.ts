import { describe, expect, test } from 'vitest';
import { CLONE, flagNames, MS, SIGCHLD } from '../../../src/sys/flags.ts';
import { printProgram, printStep, type Step } from '../../../src/sys/program.ts';

describe('a printed syscall program', () => {
  test('has one line per step, with flags by name', () => {
    const steps: Step[] = [
      { call: 'setsid', args: [] },
      { call: 'unshare', args: [CLONE.NEWNS | CLONE.NEWPID] },
      { call: 'setns', args: [{ fd: 'target' }, CLONE.NEWNET] },
      { call: 'mount', args: ['tmpfs', '/dev', 'tmpfs', MS.NOSUID | MS.NODEV, 'mode=755'], note: 'devices' },
      { call: 'mount', args: ['none', { fdPath: 'dir' }, '', 0, 0], mode: 'may' },
      { call: 'openat2', args: [-100, 'etc', { bytes: new Uint8Array(24) }, 24], as: 'opened' },
      { call: 'dup3', args: [{ result: 'opened' }, { fd: 'dir' }, 0] },
      { call: 'mount_setattr', args: [{ fd: 'tree' }, '', 0x9000, { words: [1, 0n, 0, { fd: 'userns' }] }, 32] },
      { call: 'read', args: [{ fd: 'go' }, { bytes: new Uint8Array(8), out: true }, 1], mode: 'positive' },
      { fork: CLONE.PARENT | SIGCHLD, as: 'pid', parent: [{ report: 'forked', value: 'pid' }] },
      {
        try: { call: 'mkdirat', args: [-100, 'etc', 0o755] },
        unless: 'error',
        steps: [{ try: { call: 'chdir', args: ['etc'] }, unless: 'absent', steps: [{ call: 'setsid', args: [] }] }],
      },
      { report: 'unshared' },
      { report: 'forked', value: 'pid' },
      { call: 'execve', args: ['/bin/ls', { strings: ['ls', '-l'] }, { strings: ['A=b'] }] },
    ];
    expect(printProgram(steps).split('\n')).toEqual([
      'setsid',
      'unshare CLONE_NEWNS|CLONE_NEWPID',
      'setns fd:target CLONE_NEWNET',
      'mount tmpfs /dev tmpfs MS_NOSUID|MS_NODEV mode=755 # devices',
      "mount none @dir '' 0 0 (may)",
      'openat2 -100 etc <24 bytes> 24 as opened',
      'dup3 $opened fd:dir 0',
      "mount_setattr fd:tree '' 36864 {1 0 0 fd:userns} 32",
      'read fd:go <8 bytes> 1 (positive)',
      'fork CLONE_PARENT as pid',
      'if possible: mkdirat -100 etc 493',
      '  if present: chdir etc',
      '    setsid',
      'report unshared',
      'report forked (pid)',
      'execve /bin/ls [ls -l] [A=b]',
    ]);
  });

  test('shows bits without a name as a number', () => {
    expect(flagNames('MS', MS, MS.BIND | 0x4000_0000)).toBe('MS_BIND|0x40000000');
    expect(flagNames('MS', MS, 0)).toBe('0');
    expect(printStep({ call: 'unshare', args: [0x8000_0000] })).toBe('unshare 0x80000000');
  });
});
