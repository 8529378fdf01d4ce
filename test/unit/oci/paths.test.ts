import { describe, expect, test } from 'vitest';
import { ifOpened, makeFile, makeFolders, openHow, openInRoot, writeFile } from '../../../src/oci/paths.ts';
import { O, RESOLVE } from '../../../src/sys/flags.ts';
import { calls, lines } from './program-requests.ts';

const howOf = (how: Buffer) => [0, 8, 16].map((at) => Number(how.readBigUInt64LE(at)));

describe('struct open_how', () => {
  test('has flags, mode and resolve; it is closed by execve and follows no link of /proc, whatever is asked for', () => {
    expect(howOf(openHow(O.PATH, RESOLVE.IN_ROOT))).toEqual([
      O.PATH | O.CLOEXEC,
      0,
      RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS,
    ]);
    expect(howOf(openHow(O.CREAT | O.WRONLY, 0, 0o640))).toEqual([
      O.CREAT | O.WRONLY | O.CLOEXEC,
      0o640,
      RESOLVE.NO_MAGICLINKS,
    ]);
    expect(openHow(0, 0)).toHaveLength(24);
  });
});

describe('opening a path', () => {
  test.each([
    ['/a/b', 'a/b'],
    ['a', 'a'],
    ['/', '.'],
    ['//x', 'x'],
    ['', '.'],
  ])('%j is taken from the root as %j, and goes into its place', (path, relative) => {
    expect(lines(openInRoot(path, O.PATH))).toEqual([
      `openat2 -100 ${relative} <24 bytes> 24 as what was opened for dir${path === '' ? ' # ' : ` # ${path}`}`,
      'dup3 $what was opened for dir fd:dir 524288',
      'close $what was opened for dir',
    ]);
  });

  test('an absent path can be passed over, with all that depends on it', () => {
    const step = ifOpened('/x', O.PATH, 'absent', [{ call: 'setsid', args: [] }]);
    expect(lines([step])).toEqual([
      'if present: openat2 -100 x <24 bytes> 24 as what was opened for dir # /x',
      '  dup3 $what was opened for dir fd:dir 524288',
      '  close $what was opened for dir',
      '  setsid',
    ]);
  });
});

describe('making', () => {
  const opened = (steps: Parameters<typeof calls>[0]) =>
    calls(steps).flatMap(({ call, args: [, path, how] }) =>
      call === 'openat2' && typeof how === 'object' && 'bytes' in how ? [[path, ...howOf(Buffer.from(how.bytes))]] : [],
    );
  const inRoot = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS;

  test('folders: each in the descriptor of the one before, which is resolved anew from the root', () => {
    const steps = makeFolders('/a//b/./c');
    expect(lines(steps).filter((line) => line.startsWith('mkdirat'))).toEqual(
      ['a', 'b', 'c'].map((name) => `mkdirat fd:dir ${name} 493 (may)`),
    );
    expect(opened(steps).map(([path]) => path)).toEqual(['.', 'a', 'a/b']);
    for (const [, flags, , resolve] of opened(steps))
      expect([flags, resolve]).toEqual([O.PATH | O.DIRECTORY | O.CLOEXEC, inRoot]);
    expect(makeFolders('/')).toEqual([]);
  });

  test('a file: also behind a link that leads nowhere, inside the root; what is there stays as it is', () => {
    // Debian's /etc/resolv.conf -> ../run/systemd/resolve/stub-resolv.conf, and nothing there yet.
    const [path, flags, mode, resolve] = opened(makeFile('/etc/x')).at(-1) ?? [];
    expect([path, mode, resolve]).toEqual(['etc/x', 0o644, inRoot]);
    expect(Number(flags)).toBe(O.CREAT | O.RDONLY | O.NONBLOCK | O.CLOEXEC); // neither O_EXCL nor O_TRUNC
  });

  test('a file with content: what was there is removed, and no link is followed', () => {
    const steps = writeFile('/etc/hostname', 'hé\n');
    const text = lines(steps);
    expect(text.indexOf('unlinkat fd:dir hostname 0 (may)')).toBe(
      text.findIndex((line) => line.startsWith('openat2 fd:dir hostname')) - 1,
    );
    expect(opened(steps).at(-1)).toEqual([
      'hostname',
      O.CREAT | O.EXCL | O.WRONLY | O.CLOEXEC,
      0o644,
      RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS | RESOLVE.NO_MAGICLINKS,
    ]);
    expect(text.slice(-2)).toEqual([
      'write fd:file <4 bytes> 4 # /etc/hostname',
      'dup3 fd:go fd:file 524288', // nothing is open for writing when the root becomes read-only
    ]);
  });
});
