import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { lookUpUser, openInside, readInside } from '../../../providers/namespace/inside.ts';
import { readBelow } from '../../../src/oci/open.ts';
import { O } from '../../../src/sys/flags.ts';

const passwd =
  'root:x:0:0:root:/root:/bin/bash\nanna:x:1000:1001:Anna:/home/anna:/bin/zsh\nbare:x:7:7:::\n1002:x:1003:5:::\n';
const group = 'root:x:0:\nsudo:x:27:anna\nanna:x:1001:\nwww:x:33:anna,bare\nempty:x:40:\n';
const find = (spec: string) => lookUpUser(passwd, group, spec);

describe('a user of a container', () => {
  test('is found by name, with home, shell and supplementary groups', () => {
    expect(find('anna')).toEqual({
      name: 'anna',
      uid: 1000,
      gid: 1001,
      groups: [27, 33],
      home: '/home/anna',
      shell: '/bin/zsh',
    });
    expect(find('bare')).toEqual({ name: 'bare', uid: 7, gid: 7, groups: [33], home: '/', shell: '/bin/sh' });
    expect(find('root')).toMatchObject({ uid: 0, gid: 0, groups: [] });
  });

  test('is found by number; a name that is a number comes first', () => {
    expect(find('1000')).toMatchObject({ name: 'anna', uid: 1000, gid: 1001 });
    expect(find('1002')).toMatchObject({ name: '1002', uid: 1003 });
    expect(find('4321')).toMatchObject({ name: '4321', uid: 4321, gid: 0, groups: [], home: '/' });
  });

  test('may be given another group, by name or number', () => {
    expect(find('anna:www')).toMatchObject({ uid: 1000, gid: 33 });
    expect(find('anna:77')).toMatchObject({ uid: 1000, gid: 77 });
  });

  test('root needs no passwd file', () => {
    expect(lookUpUser('', '', 'root')).toMatchObject({ uid: 0, gid: 0, home: '/root', shell: '/bin/sh' });
  });

  test.each([
    '',
    'nobody',
    'ANNA',
    'anna ',
    '-1',
    '0x0',
    '1e3',
    '4294967295',
    '4294967296',
    '99999999999',
    ':0',
    'anna:',
    'anna:nogroup',
    'anna:4294967296',
  ])('S24 is never made up for %j', (spec) => {
    expect(() => find(spec)).toThrow(expect.objectContaining({ code: 'TSV_UNSUPPORTED' }));
  });

  test.each([
    'evil:x:4294967296:0::/:',
    'evil:x:4294967295:0::/:',
    'evil:x::100::/:',
    'evil:x:abc:100::/:',
    'evil:x:-1:100::/:',
    'evil:x:1.5:100::/:',
    'evil:x: 0:100::/:',
  ])('S24 is no user with an id that is none: %s', (line) => {
    expect(() => lookUpUser(`${line}\n`, '', 'evil')).toThrow(expect.objectContaining({ code: 'TSV_UNSUPPORTED' }));
  });

  test.each(['4294967296', '', 'abc', '-1'])('S24 is in no group with an id that is none: %j', (id) => {
    expect(() => lookUpUser(`evil:x:1000:${id}::/:\n`, '', 'evil')).toThrow(
      expect.objectContaining({ code: 'TSV_UNSUPPORTED' }),
    );
    expect(() => lookUpUser('evil:x:1000:1000::/:\n', `bad:x:${id}:\n`, 'evil:bad')).toThrow(
      expect.objectContaining({ code: 'TSV_UNSUPPORTED' }),
    );
    expect(lookUpUser('evil:x:1000:1000::/:\n', `bad:x:${id}:evil\n`, 'evil').groups).toEqual([]);
  });
});

describe('a path inside another root', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'inside-'));
    writeFileSync(join(folder, 'file'), 'text');
    symlinkSync('file', join(folder, 'link'));
    symlinkSync('/proc/self/root', join(folder, 'magic'));
    symlinkSync('/proc/self/cwd', join(folder, 'cwd'));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  // Our own root is a root, too.
  test('is followed through links, but through none of the kernel', () => {
    expect(readInside(process.pid, join(folder, 'link'))).toBe('text');
    expect(readInside(process.pid, `/../../..${folder}/file`)).toBe('text');
    for (const name of ['magic', 'cwd'])
      expect(() => openInside(process.pid, join(folder, name, 'etc'), O.RDONLY)).toThrow('ELOOP');
  });

  test('that does not exist is said so, or is read as empty', () => {
    expect(() => openInside(process.pid, join(folder, 'gone'), O.RDONLY)).toThrow(
      `${join(folder, 'gone')}: no such file or folder`,
    );
    expect(readInside(process.pid, join(folder, 'gone'))).toBe('');
  });

  test('that is no file is read as empty: a container may put anything where a file should be', () => {
    expect(readInside(process.pid, folder)).toBe('');
    const fifo = join(folder, 'fifo');
    execFileSync('mkfifo', [fifo]);
    const writer = openSync(fifo, 'r+');
    onTestFinished(() => closeSync(writer));
    expect(readInside(process.pid, fifo)).toBe('');
  });

  test('below any folder, that folder is the root: no link leads out of it', () => {
    const outside = join(folder, 'file');
    symlinkSync(outside, join(folder, 'absolute'));
    symlinkSync(`../../../../../../../..${outside}`, join(folder, 'relative'));
    for (const name of ['absolute', 'relative']) expect(readBelow(folder, name)).toBeUndefined();
    expect(readBelow(folder, '/link')).toBe('text');
    expect(readBelow(folder, '../../link')).toBe('text');
    expect(readBelow(folder, '/magic/etc/passwd')).toBeUndefined();
  });

  test('S52 that is larger than a file of users ever is, is read as empty', () => {
    writeFileSync(join(folder, 'large'), Buffer.alloc((1 << 20) + 1, 'x'));
    expect(readBelow(folder, 'large')).toBe('');
    writeFileSync(join(folder, 'large'), Buffer.alloc(1 << 20, 'x'));
    expect(readBelow(folder, 'large')).toHaveLength(1 << 20);
  });
});
