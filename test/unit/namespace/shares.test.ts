import { describe, expect, test } from 'vitest';
import {
  isOnlyForRoot,
  isOrdinaryOwner,
  type PlacedShare,
  placeShares,
  shareMappings,
} from '../../../providers/namespace/shares.ts';
import type { OciIdMapping } from '../../../src/oci/spec.ts';

const block = { inside: 0, outside: 0x6fff0000, count: 65536 };
/** The id on the host that a process has which a file's id belongs to; undefined: nobody has it. */
const seenAs = (map: readonly OciIdMapping[], id: number): number | undefined => {
  const line = map.find(({ containerID, size }) => id >= containerID && id < containerID + size);
  return line === undefined ? undefined : line.hostID + id - line.containerID;
};

describe('the id map of a share', () => {
  test.each([
    [1000, 0],
    [1000, 1000],
    [0, 33],
    [65534, 65535],
  ])('makes owner %i of the host %i inside; the other ids of the container stay what they are', (owner, inside) => {
    const map = shareMappings(block, owner, inside);
    expect(seenAs(map, owner)).toBe(block.outside + inside);
    for (const id of [0, 1, 999, 1000, 65535].filter((one) => one !== inside))
      expect(seenAs(map, block.outside + id), String(id)).toBe(block.outside + id);
    expect(seenAs(map, block.outside + inside)).toBeUndefined();
  });

  test('has nothing of other users of the host: a container can neither be nor make what is theirs', () => {
    const map = shareMappings(block, 1000, 0);
    for (const id of [0, 33, 999, 1001, 65534]) expect(seenAs(map, id), String(id)).toBeUndefined();
  });

  test.each([
    [block.outside, 0],
    [block.outside + 7, 0],
    [block.outside + 7, 9],
    [block.outside + 65535, 3],
  ])('of a folder that belongs to id %i of a container gives each id to one only (%i inside)', (owner, inside) => {
    const map = shareMappings(block, owner, inside);
    expect(seenAs(map, owner)).toBe(block.outside + inside);
    for (const side of ['containerID', 'hostID'] as const) {
      const ranges = map.map((line) => [line[side], line[side] + line.size] as const).toSorted(([a], [b]) => a - b);
      ranges.forEach(([from], i) => {
        expect(from).toBeGreaterThanOrEqual(ranges[i - 1]?.[1] ?? 0);
      });
      expect(
        map.reduce((sum, { size }) => sum + size, 0),
        side,
      ).toBe(block.count);
    }
  });
});

describe('an owner whose files a container may make without a word', () => {
  const passwd = 'root:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/:\nalice:x:1000:1000::/:\nbob:x:1001:100::/:\n';
  test.each([
    [{ uid: 1000, gid: 1000 }, true],
    [{ uid: 1001, gid: 100 }, true],
    [{ uid: 33, gid: 33 }, true],
    [{ uid: 5000, gid: 5000 }, true],
    [{ uid: 0, gid: 0 }, false],
    [{ uid: 0, gid: 1000 }, false],
    [{ uid: 1000, gid: 0 }, false],
    [{ uid: 1000, gid: 998 }, false],
    [{ uid: 1000, gid: 1001 }, false],
    [{ uid: 5000, gid: 27 }, false],
  ])('S43 %j: %s', (owner, ordinary) => {
    expect(isOrdinaryOwner(owner, passwd)).toBe(ordinary);
  });
});

describe('a folder that only root gets at', () => {
  const only = (path: string, folders: Readonly<Record<string, readonly [uid: number, mode: number]>>) =>
    isOnlyForRoot(path, (at) => {
      const [uid, mode] = { '/': [0, 0o755] as const, ...folders }[at] ?? [0, 0o755];
      return { uid, mode };
    });
  test('S21 has a folder of root above it that lets nobody else in', () => {
    expect(only('/root/site', { '/root': [0, 0o700] })).toBe(true);
    expect(only('/root/a/b/site', { '/root': [0, 0o700] })).toBe(true);
    expect(only('/tmp/x/site', { '/tmp': [0, 0o1777], '/tmp/x': [0, 0o700] })).toBe(true);
  });

  test.each([
    ['anybody may enter', '/srv/site', {}],
    ['its own mode does not count: the container may change it', '/srv/site', { '/srv/site': [0, 0o700] }],
    ['its group may enter', '/root/site', { '/root': [0, 0o710] }],
    ['another user closed it', '/home/a/site', { '/home/a': [1000, 0o700] }],
    ['a user may put another in its place', '/home/a/r/site', { '/home/a': [1000, 0o755], '/home/a/r': [0, 0o700] }],
    ['everybody may', '/pub/r/site', { '/pub': [0, 0o777], '/pub/r': [0, 0o700] }],
    ['it is the root', '/', { '/': [0, 0o700] }],
  ] as const)('S21 is none when %s', (_, path, folders) => {
    expect(only(path, folders)).toBe(false);
  });
});

describe('a share of an ordinary user', () => {
  const place = (share: { uid?: number; readonly?: boolean }, user: number): [PlacedShare[], string[]] => {
    const notices: string[] = [];
    const placed = placeShares([{ host: '/', guest: '/g', readonly: false, ...share }], {
      block: undefined,
      user: (uid) => ({ uid: uid ?? user, gid: 0 }),
      notice: (text) => notices.push(text),
    });
    return [placed, notices];
  };
  const plain = { host: '/', guest: '/g', readonly: false };

  test('belongs to root inside, and says so where that is not the user of the machine', () => {
    expect(place({}, 0)).toEqual([[plain], []]);
    expect(place({ uid: 0 }, 1000)).toEqual([[plain], []]);
    expect(place({ readonly: true }, 1000)).toEqual([[{ ...plain, readonly: true }], []]);
    const [placed, notices] = place({}, 1000);
    expect(placed).toEqual([plain]);
    expect(notices).toEqual([expect.stringContaining('/g belongs to its root, not to its user 1000')]);
  });
});
