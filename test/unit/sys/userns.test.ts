import { describe, expect, test } from 'vitest';
import { enterPrefix, readUserMap } from '../../../src/sys/userns.ts';

const anna = { uid: 1000, gid: 1001, username: 'anna' };
const files =
  (subuid: string, subgid = subuid) =>
  (file: string): string => {
    if (file === '/etc/subuid') return subuid;
    if (file === '/etc/subgid') return subgid;
    throw new Error(`who reads ${file}?`);
  };

describe("a user's id map", () => {
  test("is the user's own id as 0, and the subordinate range as 1 to 65535", () => {
    expect(readUserMap(anna, files('root:1:65536\nanna:100000:65536\n', 'anna:200000:65536'))).toEqual({
      rooted: false,
      uids: [
        { inside: 0, outside: 1000, count: 1 },
        { inside: 1, outside: 100000, count: 65535 },
      ],
      gids: [
        { inside: 0, outside: 1001, count: 1 },
        { inside: 1, outside: 200000, count: 65535 },
      ],
    });
  });

  test('finds the range by number, too, and takes no more of it than is needed', () => {
    expect(readUserMap(anna, files(' 1000:300000:1000000 ')).uids[1]).toEqual({
      inside: 1,
      outside: 300000,
      count: 65535,
    });
    expect(readUserMap(anna, files('anna:100000:65535')).uids[1]?.count, 'just enough').toBe(65535);
  });

  test('takes the first range that is large enough', () => {
    expect(
      readUserMap(anna, files('anna:100:1000\nannabel:500000:65536\nanna:200000:65536\nanna:900000:65536')).uids[1]
        ?.outside,
    ).toBe(200000);
  });

  test.each([
    ['has no line', ''],
    ["has only other users' lines", 'annabel:100000:65536\nann:200000:65536\n10001:300000:65536'],
    ['gives too few ids', 'anna:100000:65534'],
    ['is not what it should be', 'anna\nanna:x:y\n::\n#anna:100000:65536'],
  ])('is refused when the file %s, with the command that mends it', (_, text) => {
    expect(() => readUserMap(anna, files(text))).toThrow(
      expect.objectContaining({
        code: 'TSV_HOST_MISSING',
        message: expect.stringContaining('/etc/subuid'),
        hint: expect.stringMatching(/^sudo usermod --add-subuids \S+ --add-subgids \S+ anna\b/),
      }),
    );
  });

  test('is refused when there is no such file, or none for groups', () => {
    const noFile = () => {
      throw new Error('ENOENT');
    };
    expect(() => readUserMap(anna, noFile)).toThrow('/etc/subuid');
    expect(() => readUserMap(anna, files('anna:100000:65536', ''))).toThrow('/etc/subgid');
  });

  test("is, for root, a block that holds no user's id: 0 inside is not 0 outside", () => {
    const noFile = () => {
      throw new Error('not needed');
    };
    const map = readUserMap({ uid: 0, gid: 0, username: 'root' }, noFile);
    expect(map).toEqual({ rooted: true, uids: [{ inside: 0, outside: 0x6fff0000, count: 65536 }], gids: map.uids });
  });
});

test('entering a user namespace makes one its root; entering others changes no id', () => {
  expect(enterPrefix(12, ['user', 'mount'])).toEqual([
    'nsenter',
    '-t',
    '12',
    '--user',
    '--mount',
    '-S',
    '0',
    '-G',
    '0',
    '--',
  ]);
  expect(enterPrefix(12, ['net'])).toEqual(['nsenter', '-t', '12', '--net', '--']);
});
