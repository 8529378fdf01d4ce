import { describe, expect, test } from 'vitest';
import { mountOptionNames, ofNewFilesystem, readMountOptions } from '../../../src/oci/mount-options.ts';
import { MOUNT_ATTR, MS } from '../../../src/sys/flags.ts';

const read = (...options: string[]) => readMountOptions(options);

describe('flags of a new file system', () => {
  test.each([
    ['ro', MS.RDONLY],
    ['nosuid', MS.NOSUID],
    ['nodev', MS.NODEV],
    ['noexec', MS.NOEXEC],
    ['sync', MS.SYNCHRONOUS],
    ['dirsync', MS.DIRSYNC],
    ['noatime', MS.NOATIME],
    ['nodiratime', MS.NODIRATIME],
    ['relatime', MS.RELATIME],
    ['strictatime', MS.STRICTATIME],
    ['nosymfollow', MS.NOSYMFOLLOW],
    ['mand', MS.MANDLOCK],
    ['acl', MS.POSIXACL],
    ['iversion', MS.I_VERSION],
    ['lazytime', MS.LAZYTIME],
    ['silent', MS.SILENT],
    ['bind', MS.BIND],
    ['rbind', MS.BIND | MS.REC],
    ['remount', MS.REMOUNT],
    ['defaults', 0],
  ])('%s', (option, flags) => {
    expect(read(option).flags).toBe(flags);
    expect(read(option).data).toEqual([]);
  });

  test.each([
    ['ro', 'rw'],
    ['nosuid', 'suid'],
    ['nodev', 'dev'],
    ['noexec', 'exec'],
    ['sync', 'async'],
    ['noatime', 'atime'],
    ['nodiratime', 'diratime'],
    ['relatime', 'norelatime'],
    ['strictatime', 'nostrictatime'],
    ['nosymfollow', 'symfollow'],
    ['mand', 'nomand'],
    ['acl', 'noacl'],
    ['iversion', 'noiversion'],
    ['lazytime', 'nolazytime'],
    ['silent', 'loud'],
  ])('of %s and %s the later one holds', (set, clear) => {
    expect(read(set, clear).flags).toBe(0);
    expect(read(clear, set).flags).toBe(read(set).flags);
  });

  test('nothing of them is data of the file system, and all else is, in its order', () => {
    expect(read('mode=755', 'nosuid', 'size=1k', 'toString', '').data).toEqual(['mode=755', 'size=1k', 'toString', '']);
  });
});

describe('attributes of a bind', () => {
  test('set what is asked for and leave the rest as the host has it', () => {
    expect(read('rbind').attributes).toEqual({ set: 0, clear: 0 });
    expect(read('rbind', 'ro', 'nosuid').attributes).toEqual({ set: MOUNT_ATTR.RDONLY | MOUNT_ATTR.NOSUID, clear: 0 });
    expect(read('rbind', 'rw').attributes).toEqual({ set: 0, clear: MOUNT_ATTR.RDONLY });
  });

  test('the later one of two holds', () => {
    expect(read('ro', 'rw').attributes).toEqual({ set: 0, clear: MOUNT_ATTR.RDONLY });
    expect(read('rw', 'ro').attributes).toEqual({ set: MOUNT_ATTR.RDONLY, clear: 0 });
  });

  test('an access time clears all its bits first, as mount_setattr(2) wants it, whatever comes with it', () => {
    for (const [option, bit] of [
      ['noatime', MOUNT_ATTR.NOATIME],
      ['strictatime', MOUNT_ATTR.STRICTATIME],
      ['relatime', 0],
    ] as const)
      for (const options of [
        [option, 'ro'],
        ['ro', option],
        ['noatime', option, 'ro'],
      ])
        expect(read(...options).attributes).toEqual({ set: bit | MOUNT_ATTR.RDONLY, clear: MOUNT_ATTR._ATIME });
  });

  test.each([
    'ro',
    'rw',
    'nosuid',
    'suid',
    'nodev',
    'dev',
    'noexec',
    'exec',
    'noatime',
    'atime',
    'nodiratime',
    'diratime',
    'relatime',
    'strictatime',
    'nosymfollow',
    'symfollow',
  ])('r%s is that of the whole tree, and no flag', (option) => {
    const { recursive, attributes, flags, data } = read(`r${option}`);
    expect(recursive).toEqual(read(option).attributes);
    expect({ attributes, flags, data }).toEqual({ attributes: { set: 0, clear: 0 }, flags: 0, data: [] });
  });

  test.each(['rnorelatime', 'rnostrictatime'])('%s is known', (option) => {
    expect(read(option).data).toEqual([]);
  });
});

describe('what else there is', () => {
  test('propagation, in its order, apart from all else', () => {
    expect(read('rprivate', 'shared', 'rslave', 'runbindable', 'ro')).toMatchObject({
      propagation: [MS.PRIVATE | MS.REC, MS.SHARED, MS.SLAVE | MS.REC, MS.UNBINDABLE | MS.REC],
      flags: MS.RDONLY,
    });
  });

  test('id maps, of one mount or of the tree, and tmpcopyup', () => {
    expect(read('idmap').idmap).toBe('single');
    expect(read('ridmap').idmap).toBe('recursive');
    expect(read().idmap).toBe('no');
    expect([read('tmpcopyup').copyUp, read().copyUp]).toEqual([true, false]);
  });

  test('every name that is listed is read as an option, none twice', () => {
    expect(mountOptionNames.filter((name) => read(name).data.length > 0)).toEqual([]);
    expect(new Set(mountOptionNames).size).toBe(mountOptionNames.length);
    expect(mountOptionNames).toEqual([...mountOptionNames].sort());
  });
});

test('for a new file system, an option for the tree is one for itself', () => {
  expect(ofNewFilesystem(['rro', 'rnosuid', 'rw', 'relatime', 'rprivate', 'mode=755'])).toEqual([
    'ro',
    'nosuid',
    'rw',
    'relatime',
    'rprivate',
    'mode=755',
  ]);
});
