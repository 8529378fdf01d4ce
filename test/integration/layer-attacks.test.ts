import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { canary, list, sha256, shown, TestStore } from '../support/layers.ts';
import { archiveEnd, paxContent, type RawEntry, rawEntry, rawTar } from '../support/tar.ts';

/** Layers from strangers. A canary lies beside the store's folders, where they try to reach it. */
let store: TestStore;
let bird: ReturnType<typeof canary>;

beforeEach(() => {
  store = new TestStore();
  bird = canary(store.store);
});

afterEach(async () => {
  await store.remove();
});

/** From the tree of a layer, `STORE/images/layers/MAP/.new.HEX.XXXXXX/fs`, up to the store. */
const up = '../../../../..';
const evil: RawEntry = { content: 'evil' };

/** Unpacks, and expects that nothing but the layer has changed; `refused` when there is to be no layer. */
async function attack(entries: readonly RawEntry[], expected: 'unpacked' | RegExp): Promise<string> {
  const before = bird.look();
  const unpacked = store.unpack(rawTar(...entries));
  if (expected === 'unpacked') await expect(unpacked).resolves.toBeDefined();
  else await expect(unpacked).rejects.toMatchObject({ code: 'TSV_IMAGE', details: [expect.stringMatching(expected)] });
  expect(bird.look()).toEqual(before);
  expect(readdirSync(store.store).sort()).toEqual(['canary', 'images']);
  if (expected !== 'unpacked') expect(store.left).toEqual([]);
  return expected === 'unpacked' ? (await unpacked).fs : '';
}

describe('S32: an archive cannot change anything outside its layer', () => {
  test.each(['../x', `${up}/canary/file`, 'a/../../x', '/../x'])('by the path %s', async (path) => {
    await attack([{ path, ...evil }], /leads out of the layer/);
    await attack([{ path, type: '5' }], /leads out of the layer/);
    await attack([{ path: `${path}/.wh.file` }], /leads out of the layer/);
  });

  test('by an absolute path, which is one in the layer', async () => {
    const path = join(bird.path, 'file');
    const fs = await attack([{ path, ...evil }], 'unpacked');
    expect(readFileSync(join(fs, path), 'utf8')).toBe('evil');
  });

  test('by a symbolic link and a file through it', async () => {
    for (const target of [`${up}/canary`, bird.path]) {
      await attack(
        [
          { path: 'l', type: '2', target },
          { path: 'l/file', ...evil },
        ],
        /l|canary/,
      );
      await attack([{ path: 'l', type: '2', target }, { path: 'l/.wh.file' }], /l|canary/);
      await attack([{ path: 'l', type: '2', target }, { path: 'l/.wh..wh..opq' }], /l|canary/);
    }
    // Where the link leads to something in the layer, that is what it means.
    const fs = await attack(
      [
        { path: 'canary', type: '5', mode: 0o755 },
        { path: 'l', type: '2', target: `${up}/canary` },
        { path: 'l/file', ...evil },
      ],
      'unpacked',
    );
    expect(readFileSync(join(fs, 'canary/file'), 'utf8')).toBe('evil');
  });

  test('by a file, a folder or a hard link in place of a symbolic link: it is replaced, not followed', async () => {
    const link: RawEntry = { path: 'l', type: '2', target: `${up}/canary/file` };
    const toFolder: RawEntry = { path: 'd', type: '2', target: `${up}/canary` };
    const fs = await attack(
      [
        link,
        { path: 'l', ...evil },
        toFolder,
        { path: 'd', type: '5', mode: 0o700 },
        { path: 'd/file', ...evil },
        link,
        { path: 'l', type: '1', target: 'd/file' },
      ],
      'unpacked',
    );
    expect(lstatSync(join(fs, 'l')).isFile()).toBe(true);
    expect(lstatSync(join(fs, 'd')).isDirectory()).toBe(true);
  });

  test('by a folder that becomes a symbolic link, also when it was in use', async () => {
    await attack(
      [
        { path: 'd', type: '5', mode: 0o755 },
        { path: 'd/one', ...evil },
        { path: 'd', type: '2', target: `${up}/canary` },
        { path: 'd/file', ...evil },
      ],
      /d|canary/,
    );
    // The folder's times are set at the end: of what has its name then, which is the link.
    await attack(
      [
        { path: 'd', type: '5', mode: 0o700, mtime: 1 },
        { path: 'd', type: '2', target: `${up}/canary` },
      ],
      'unpacked',
    );
  });

  test('by names that are the same on other systems only', async () => {
    const names = ['..\\canary\\file', 'C:\\file', 'ﬀ', 'ff', 'FF', 'caf\u00e9', 'cafe\u0301', '.\u200d.'];
    const fs = await attack(
      names.map((path) => ({ path, ...evil })),
      'unpacked',
    );
    expect(readdirSync(fs).sort()).toEqual([...names].sort());
  });

  test('by twins: a link and a folder whose names only look the same', async () => {
    const fs = await attack(
      [
        { path: 'caf\u00e9', type: '5', mode: 0o755 },
        { path: 'cafe\u0301', type: '2', target: `${up}/canary` },
        { path: 'caf\u00e9/file', ...evil },
      ],
      'unpacked',
    );
    expect(readFileSync(join(fs, 'caf\u00e9/file'), 'utf8')).toBe('evil');
  });

  test('by a hard link to an absolute path, or one that goes up', async () => {
    for (const target of [join(bird.path, 'file'), '/etc/passwd']) {
      await attack([{ path: 'h', type: '1', target }], /a hard link to .*, which is not in this layer/);
    }
    await attack([{ path: 'h', type: '1', target: `${up}/canary/file` }], /leads out of the layer/);
  });

  test('by a hard link through two symbolic links', async () => {
    const links: RawEntry[] = [
      { path: 'd', type: '5', mode: 0o755 },
      { path: 'd/up', type: '2', target: '..' },
      { path: 'out', type: '2', target: `d/up/${up}` },
    ];
    for (const target of ['out/canary/file', 'out/canary']) {
      await attack([...links, { path: 'h', type: '1', target }, { path: 'h', ...evil }], /not in this layer/);
    }
  });

  test('by a hard link to a symbolic link, which gets another name itself', async () => {
    const target = `${up}/canary/file`;
    const fs = await attack(
      [
        { path: 'l', type: '2', target },
        { path: 'h', type: '1', target: 'l' },
        { path: 'h', ...evil },
      ],
      'unpacked',
    );
    expect(readlinkSync(join(fs, 'l'))).toBe(target);
    expect(lstatSync(join(fs, 'h')).isFile()).toBe(true);
  });

  test('by links of /proc, whose targets are no paths', async () => {
    await attack(
      [
        { path: 'p', type: '2', target: '/proc/self/cwd' },
        { path: 'p/x', ...evil },
      ],
      /proc|p/,
    );
    await attack([{ path: 'h', type: '1', target: '/proc/self/exe' }], /not in this layer/);
  });

  test('by a NUL in an extended header', async () => {
    await attack([{ pax: { path: `good\0/${up}/canary/file` } }], /a NUL byte in the record path/);
    await attack([{ type: '1', pax: { linkpath: `good\0/${up}/canary/file` } }], /a NUL byte in the record linkpath/);
  });

  test('by the root folder itself', async () => {
    await attack([{ path: './', type: '2', target: '/' }], /in place of the root folder/);
    await attack([{ path: '/', ...evil }], /in place of the root folder/);
    await attack([{ path: '.wh..', ...evil }], /it hides nothing/);
    await attack([{ path: 'a/.wh...', ...evil }], /it hides nothing/);
  });

  test('by its extended attributes', async () => {
    const { fs, skipped } = await store.unpack(
      rawTar({
        path: 'd',
        type: '5',
        mode: 0o755,
        pax: {
          'SCHILY.xattr.user.overlay.redirect': '/etc',
          'SCHILY.xattr.user.overlay.opaque': 'y',
          'SCHILY.xattr.trusted.overlay.opaque': 'y',
          'SCHILY.xattr.security.selinux': 'label',
          'SCHILY.xattr.user.kept': 'yes',
        },
      }),
    );
    expect((await list(fs)).d?.xattrs).toEqual({ 'user.kept': Buffer.from('yes').toString('hex') });
    expect(skipped).toHaveLength(4);
    expect(skipped[0]).toMatch(/^d: the attribute user\.overlay\.redirect: /);
  });
});

test('S33: device nodes are left out and told, fifos are made, setuid is for ids of the sandbox only', async () => {
  const { fs, skipped, entries } = await store.unpack(
    rawTar(
      { path: 'dev/null', type: '3', mode: 0o666 },
      { path: 'dev/sda', type: '4', mode: 0o666 },
      { path: 'fifo', type: '6', mode: 0o620, uid: 5 },
      { path: 'su', mode: 0o6755, content: 'x', uid: 0, gid: 8 },
      { path: 'whiteout-like', type: '3', mode: 0 },
    ),
  );
  const found = await list(fs);
  expect(Object.keys(found)).toEqual(['', 'fifo', 'su']);
  expect(found.fifo).toMatchObject({ mode: 'p620', uid: shown(5) });
  expect(found.su).toMatchObject({ mode: 'f6755', uid: shown(0), gid: shown(8) });
  // Not the host's root, and nobody else gets there.
  expect(lstatSync(join(fs, 'su')).uid).not.toBe(0);
  expect(lstatSync(store.folder).mode & 0o777).toBe(0o700);
  expect(skipped).toEqual(
    ['dev/null', 'dev/sda', 'whiteout-like'].map((path) => expect.stringContaining(`${path}: a device node`)),
  );
  expect(entries).toBe(2);
});

describe('S34: an archive that would fill the disk is given up, and nothing is left of it', () => {
  test('by its compression: more than a hundred bytes for one', async () => {
    // Like 10 MB that become 10 GB, with the limits a thousandth of what they are.
    const head = rawEntry({ path: 'zeros', size: Buffer.from('00100000000\0') });
    const bomb = gzipSync(Buffer.concat([head, Buffer.alloc(2 ** 24)]), { level: 9 });
    const unpacker = await store.open(undefined, { ratioFromBytes: 2 ** 20 });
    try {
      const sink = await unpacker.layer({ diffId: sha256(bomb), compression: 'gzip' });
      await expect(sink?.write(bomb).then(() => sink.finish())).rejects.toMatchObject({
        code: 'TSV_IMAGE',
        details: [expect.stringMatching(/^\d+ bytes of it are \d+ without compression$/)],
      });
      expect(store.left).toEqual([]);
    } finally {
      await unpacker.close();
    }
  });

  test('by its size', async () => {
    await expect(
      store.unpack(rawTar({ content: Buffer.alloc(100_000, 'x') }), { limits: { bytes: 50_000 } }),
    ).rejects.toMatchObject({
      code: 'TSV_IMAGE',
      details: ['more than 50000 bytes without compression'],
    });
    expect(store.left).toEqual([]);
  });

  test('by many entries, said or implied', async () => {
    const many = Array.from({ length: 1001 }, (_, i) => ({ path: `f${i}` }));
    await expect(store.unpack(rawTar(...many), { limits: { entries: 1000 } })).rejects.toMatchObject({
      details: ['f1000: more than 1000 files and folders'],
    });
    const deep = Array.from({ length: 60 }, (_, i) => ({ path: `d${i}/${'d/'.repeat(20)}f` }));
    await expect(store.unpack(rawTar(...deep), { limits: { entries: 1000 } })).rejects.toMatchObject({
      details: [expect.stringMatching(/more than 1000 files and folders/)],
    });
    expect(store.left).toEqual([]);
  });

  test('by a path of ten thousand folders, at once or link by link', async () => {
    await expect(store.unpack(rawTar({ pax: { path: 'd/'.repeat(10_000) } }))).rejects.toMatchObject({
      details: [expect.stringMatching(/a path of 20000 bytes/)],
    });
    expect(store.left).toEqual([]);
    // Each link leads to the deepest folder so far: 12,000 folders deep, and then one thing is wrong.
    const part = 'd/'.repeat(1500);
    const chain = Array.from({ length: 8 }, (_, i): RawEntry[] => [
      { type: '5', mode: 0o755, pax: { path: i === 0 ? part : `l${i - 1}/${part}` } },
      { path: `l${i}`, type: '2', pax: { linkpath: i === 0 ? part : `l${i - 1}/${part}` } },
    ]).flat();
    await expect(store.unpack(rawTar(...chain, { path: 'x', type: '1', target: 'missing' }))).rejects.toMatchObject({
      details: [expect.stringMatching(/not in this layer/)],
    });
    expect(store.left).toEqual([]);
  });

  test('by an extended header without end', async () => {
    const archive = rawTar({ type: 'x', content: paxContent({ comment: 'x'.repeat(2 ** 21) }) }, {});
    await expect(store.unpack(archive)).rejects.toMatchObject({
      details: [expect.stringMatching(/an extended header of/)],
    });
    expect(store.left).toEqual([]);
  });
});

test('S35: a negative or huge size is refused before anything of the entry is read', async () => {
  for (const size of [Buffer.alloc(12, 0xff), Buffer.from('800000007fffffffffffffff', 'hex')]) {
    await attack([{ path: 'ok' }, { path: 'f', size }], /size/);
  }
  // Nothing that stands there makes it wait for more than there is.
  const cut = Buffer.concat([rawEntry({ path: 'f', size: Buffer.from('77777777777\0') }), archiveEnd]);
  await expect(store.unpack(cut)).rejects.toMatchObject({
    code: 'TSV_IMAGE',
    details: [expect.stringMatching(/cut off/)],
  });
  expect(store.left).toEqual([]);
});

test('owners that the sandbox does not have are refused with the id and the entry', async () => {
  await attack([{ path: 'home/x', uid: 70000 }], /^home\/x: its uid is 70000, and the sandbox has the ids 0 to 65535$/);
  await attack([{ path: 'd', type: '5', gid: 65536 }], /^d: its gid is 65536/);
});
