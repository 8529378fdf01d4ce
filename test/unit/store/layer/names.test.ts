import { describe, expect, test } from 'vitest';
import { attributeOf } from '../../../../src/store/layer/attributes.ts';
import { layerNames, layersFolder } from '../../../../src/store/layer/layout.ts';
import { ownersOf, pathParts, whiteoutOf } from '../../../../src/store/layer/names.ts';
import type { UserMap } from '../../../../src/sys/userns.ts';

const block = [{ inside: 0, outside: 0x6fff0000, count: 65536 }];
const rooted: UserMap = { rooted: true, uids: block, gids: block };
const ranges = [
  { inside: 0, outside: 1000, count: 1 },
  { inside: 1, outside: 100000, count: 65535 },
];
const user: UserMap = { rooted: false, uids: ranges, gids: ranges };

test('a path has parts below the layer, however it is written', () => {
  expect(pathParts('./a//b/./c/')).toEqual(['a', 'b', 'c']);
  expect(pathParts('/etc/passwd')).toEqual(['etc', 'passwd']);
  expect(pathParts('a/../b')).toEqual(['b']);
  expect(pathParts('./')).toEqual([]);
  expect(pathParts('a\\..\\b')).toEqual(['a\\..\\b']);
});

test.each(['..', '../x', 'a/../../x', '/../x', './../x'])('the path %s leads out and is refused', (path) => {
  expect(() => pathParts(path)).toThrow(
    expect.objectContaining({ code: 'TSV_IMAGE', details: [expect.stringMatching(/leads out/)] }),
  );
});

test('a path that Linux would not take is refused', () => {
  expect(() => pathParts('d/'.repeat(10_000))).toThrow(expect.objectContaining({ code: 'TSV_IMAGE' }));
  expect(() => pathParts('n'.repeat(256))).toThrow(expect.objectContaining({ code: 'TSV_IMAGE' }));
  expect(() => pathParts('a\0b')).toThrow(expect.objectContaining({ code: 'TSV_IMAGE' }));
});

test('names of whiteouts say what they hide', () => {
  expect(whiteoutOf('.wh.a')).toEqual({ hides: 'a' });
  expect(whiteoutOf('.wh..wh..opq')).toBe('folder');
  expect(whiteoutOf('.wh..wh.plnk')).toBe('ignored');
  expect(whiteoutOf('wh.a')).toBeUndefined();
  for (const name of ['.wh.', '.wh..', '.wh...']) expect(() => whiteoutOf(name)).toThrow(/cannot be unpacked/);
});

test('owners are shifted outside the user namespace, and as they are inside', () => {
  expect(ownersOf(rooted).uid(0, 'f')).toBe(0x6fff0000);
  expect(ownersOf(rooted).gid(65535, 'f')).toBe(0x6fffffff);
  expect(ownersOf(user).uid(65534, 'f')).toBe(65534);
});

test.each([rooted, user])('an owner outside the map is refused with its id and the entry', (map) => {
  const details = ['home/x: its uid is 70000, and the sandbox has the ids 0 to 65535'];
  expect(() => ownersOf(map).uid(70000, 'home/x')).toThrow(expect.objectContaining({ code: 'TSV_IMAGE', details }));
});

describe('extended attributes', () => {
  const of = (name: string, value: Buffer, map = rooted) => attributeOf(name, value, ownersOf(map), map.rooted, 'f');
  const capability2 = Buffer.from('0100000200040000000000000000000000000000', 'hex');

  test("of users are kept; the overlay's and the host's are not", () => {
    const value = Buffer.from('v');
    expect(of('user.mime', value)).toEqual({ value });
    for (const name of [
      'user.overlay.opaque',
      'user.overlay.redirect',
      'trusted.overlay.opaque',
      'security.selinux',
      'system.x',
      'other',
    ])
      expect(of(name, value), name).toHaveProperty('skip');
  });

  test('with capabilities get the root that they are for', () => {
    expect(of('security.capability', capability2, user)).toEqual({ value: capability2 });
    const value = Buffer.concat([
      Buffer.from('01000003', 'hex'),
      capability2.subarray(4),
      Buffer.from('0000ff6f', 'hex'),
    ]);
    expect(of('security.capability', capability2)).toEqual({ value });
    expect(of('security.capability', capability2.subarray(1))).toHaveProperty('skip');
    expect(of('security.capability', Buffer.alloc(12))).toHaveProperty('skip');
  });

  test('with access control lists get the ids of the map', () => {
    const entry = (tag: number, id: number) => {
      const bytes = Buffer.alloc(8);
      bytes.writeUInt16LE(tag, 0);
      bytes.writeUInt32LE(id, 4);
      return bytes;
    };
    const list = (...ids: number[]) =>
      Buffer.concat([Buffer.from([2, 0, 0, 0]), entry(1, 0xffffffff), entry(2, ids[0] ?? 0), entry(8, ids[1] ?? 0)]);
    expect(of('system.posix_acl_access', list(5, 6))).toEqual({ value: list(0x6fff0005, 0x6fff0006) });
    expect(of('system.posix_acl_access', list(5, 6), user)).toEqual({ value: list(5, 6) });
    expect(() => of('system.posix_acl_access', list(70000, 6))).toThrow(expect.objectContaining({ code: 'TSV_IMAGE' }));
    expect(of('system.posix_acl_access', Buffer.from('x'))).toHaveProperty('skip');
  });
});

test('layers lie apart for each user map, under a name that is safe in a path', () => {
  expect(layersFolder('/s', rooted)).toMatch(/^\/s\/images\/layers\/[0-9a-f]{16}$/);
  expect(layersFolder('/s', user)).not.toBe(layersFolder('/s', rooted));
  expect(layerNames('sha256:ab')).toEqual({ final: 'ab', unfinished: '.new.ab.', lock: '.lock-ab' });
  expect(layerNames('sha512:ab').final).toBe('sha512-ab');
});
