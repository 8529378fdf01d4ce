import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { mustRun } from '../../src/sys/command.ts';
import { withUserNamespace } from '../../src/sys/userns.ts';
import { asOwner, compress, imageLayout, type Listed, list, map, sha256, shown, TestStore } from '../support/layers.ts';
import { readTar } from '../support/read-tar.ts';
import { rootTest } from '../support/root.ts';
import { type RawEntry, rawTar } from '../support/tar.ts';

const _root = resolve(import.meta.dirname, '../..');
let store: TestStore;
let work: string;

beforeEach(() => {
  store = new TestStore();
  work = mkdtempSync(join(tmpdir(), 'tsv-layer-work-'));
});

afterEach(async () => {
  await store.remove();
  await asOwner(['rm', '-rf', '--', work]);
});

const python = (script: string, ...args: string[]): void => {
  execFileSync('python3', ['-c', script, ...args]);
};

/** 10,000 files and folders with everything that an archive can say of them, by Python's tarfile. */
const bigArchive = `
import io, random, sys, tarfile
random.seed(1); out = tarfile.open(sys.argv[1], 'w', format=tarfile.PAX_FORMAT); t0 = 1600000000
def add(name, kind, data=b'', **more):
    i = tarfile.TarInfo(name); i.type = kind; i.size = len(data)
    i.uid, i.gid = random.choice([(0, 0), (0, 0), (1000, 1000), (33, 4), (65534, 65534), (7, 65535)])
    i.mode = random.choice([0o644, 0o755, 0o600, 0o4755, 0o2755, 0o1777, 0o444, 0o000, 0o6711])
    i.pax_headers = {'mtime': '%d.%09d' % (t0 + random.randrange(10**8), random.randrange(10**9))}
    for key, value in more.items():
        if key == 'target': i.linkname = value
        else: i.pax_headers['SCHILY.xattr.user.' + key] = value
    out.addfile(i, io.BytesIO(data))
add('./', tarfile.DIRTYPE)
folders = ['']
for n in range(400):
    name = random.choice(folders) + 'd%d/' % n
    folders.append(name); add(name, tarfile.DIRTYPE)
folders.append('long/' + 'n' * 200 + '/' + 'm' * 255 + '/'); add(folders[-1], tarfile.DIRTYPE); add('long/', tarfile.DIRTYPE); add('long/' + 'n' * 200 + '/', tarfile.DIRTYPE)
files = []
for n in range(8000):
    name = random.choice(folders) + 'f%d' % n
    files.append(name)
    add(name, tarfile.REGTYPE, random.randbytes(random.choice([0, 1, 511, 512, 513, 3000, 20000])), **({'mime': 'text'} if n % 50 == 0 else {}))
for n in range(1000):
    add(random.choice(folders) + 'l%d' % n, tarfile.SYMTYPE, target=random.choice(['f1', '/etc/passwd', '../../x', 'missing', 'caf\\u00e9', 'x' * 300]))
for n in range(500): add(random.choice(folders) + 'h%d' % n, tarfile.LNKTYPE, target=random.choice(files))
for n in range(100): add(random.choice(folders) + 'p%d' % n, tarfile.FIFOTYPE)
add('caf\\u00e9 \\u2603', tarfile.REGTYPE, b'x')
for n in range(200): add(files[n], tarfile.REGTYPE, b'again')
for n in range(50): add('d%d/' % n if 'd%d/' % n in folders else 'e%d' % n, tarfile.DIRTYPE)
out.close()
`;

describe('a layer', () => {
  test('of 10,000 entries of all kinds is, entry by entry, what umoci makes of it', async () => {
    const file = join(work, 'layer.tar');
    python(bigArchive, file);
    const archive = readFileSync(file);
    imageLayout(join(work, 'image'), [archive]);
    const ids = map.rooted ? ['--uid-map', idMap(map.uids), '--gid-map', idMap(map.gids)] : [];
    const { fs, skipped, entries } = await store.unpack(archive);
    await asOwner(['umoci', 'raw', 'unpack', '--image', `${join(work, 'image')}:test`, ...ids, join(work, 'umoci')]);
    const [ours, theirs] = await Promise.all([list(fs), list(join(work, 'umoci'))]);
    expect(skipped).toEqual([]);
    expect(entries).toBeGreaterThan(9900);
    expect(differences(ours, theirs)).toEqual([]);
    expect(Object.keys(ours).length).toBeGreaterThan(9900);
  });

  test('keeps capabilities, access control lists and attributes, with the ids of the sandbox', async () => {
    const capability = Buffer.from('0100000200040000000000000000000000000000', 'hex');
    const entry = (tag: number, permission: number, id: number): number[] => [tag, 0, permission, 0, ...int32(id)];
    const acl = (id: number) =>
      Buffer.from([
        ...int32(2),
        ...entry(1, 6, -1),
        ...entry(2, 4, id),
        ...entry(4, 4, -1),
        ...entry(16, 4, -1),
        ...entry(32, 0, -1),
      ]);
    const { fs, skipped } = await store.unpack(
      rawTar(
        { path: 'd', type: '5', mode: 0o2750, gid: 8, pax: { 'SCHILY.xattr.system.posix_acl_default': acl(7) } },
        { path: 'd/f', mode: 0o640, pax: { 'SCHILY.xattr.system.posix_acl_access': acl(1000) } },
        { path: 'd/plain', mode: 0o640 },
        { path: 'ping', mode: 0o755, content: 'x', pax: { 'SCHILY.xattr.security.capability': capability } },
        { path: 'link', type: '2', target: 'x', pax: { 'SCHILY.xattr.user.a': 'b' } },
      ),
    );
    const found = await list(fs);
    expect(skipped).toEqual(['link: the attribute user.a: not possible here']);
    expect(found.d).toMatchObject({
      mode: 'd2750',
      xattrs: { 'system.posix_acl_default': acl(shown(7)).toString('hex') },
    });
    expect(found['d/f']?.xattrs).toEqual({ 'system.posix_acl_access': acl(shown(1000)).toString('hex') });
    expect(found['d/plain']).toMatchObject({ mode: 'f640', gid: shown(0), xattrs: {} });
    const inside = await withUserNamespace(map, async (prefix) => {
      const script = "import os,sys; print(os.getxattr(sys.argv[1], 'security.capability').hex())";
      const argv = [...prefix.filter((word) => word !== '--mount'), 'python3', '-c', script, './ping'];
      return (await mustRun(argv, { code: 'TSV_INTERNAL', message: 'getxattr' }, { cwd: fs })).stdout.trim();
    });
    expect(inside).toBe(capability.toString('hex'));
  });

  test('has its folders as the last entry says, and files of a later entry of the same path', async () => {
    const { fs } = await store.unpack(
      rawTar(
        { path: 'd', type: '5', mode: 0o755, mtime: 1 },
        { path: 'd/kept', content: 'kept' },
        { path: 'd/gone/deep', content: 'x' },
        { path: 'd/gone', content: 'a file now' },
        { path: 'd', type: '5', mode: 0o700, uid: 5, mtime: 77 },
        { path: 'implied/f', mtime: 5 },
        { path: 'usr/lib', type: '5', mode: 0o755 },
        { path: 'lib', type: '2', target: 'usr/lib' },
        { path: 'lib/x', content: 'through the link' },
        // What a path meant before is not what it means now.
        { path: 'lib', type: '2', target: 'd' },
        { path: 'lib/y', content: 'through the other' },
        { path: 'implied', type: '2', target: 'd' },
        { path: 'implied/z', content: 'through a link that was a folder' },
      ),
    );
    const found = await list(fs);
    expect(found['']).toMatchObject({ mode: 'd755', uid: shown(0), gid: shown(0) });
    expect(found.d).toMatchObject({ mode: 'd700', uid: shown(5), mtime: '77000000000' });
    expect(found['d/kept']?.mode).toBe('f644');
    expect(found['d/gone']?.mode).toBe('f644');
    expect(found['d/gone/deep']).toBeUndefined();
    expect(found.usr).toMatchObject({ mode: 'd755', uid: shown(0), gid: shown(0) });
    expect(Object.keys(found).sort()).toEqual(
      ['', 'd', 'd/gone', 'd/kept', 'd/y', 'd/z', 'implied', 'lib', 'usr', 'usr/lib', 'usr/lib/x'].sort(),
    );
  });

  test('that hides things is taken so by overlayfs, over the layers that it hides', async () => {
    const unpack = async (...entries: RawEntry[]) => (await store.unpack(rawTar(...entries))).fs;
    const dir = (path: string): RawEntry => ({ path, type: '5', mode: 0o755 });
    const lower = await unpack(
      ...[
        dir('a'),
        { path: 'a/1' },
        { path: 'a/2' },
        dir('b'),
        { path: 'b/1' },
        dir('c'),
        { path: 'c/1' },
        { path: 'f' },
      ],
      ...[dir('e'), { path: 'e/1' }, dir('g'), { path: 'g/1' }, dir('h'), { path: 'h/1' }],
    );
    const upper = await unpack(
      ...[
        { path: 'a/.wh.1' },
        dir('b'),
        { path: 'b/.wh..wh..opq' },
        { path: 'b/new' },
        { path: '.wh.f' },
        { path: '.wh.c' },
      ],
      // A whiteout is about what is below, not about this layer: in either order the folder is a new one.
      ...[{ path: '.wh.e' }, dir('e'), { path: 'e/new' }, dir('g'), { path: 'g/new' }, { path: '.wh.g' }],
      ...[{ path: 'h', type: '1', target: 'b/new' }, { path: '.wh.h' }],
      ...[{ path: '.wh..wh.plnk', type: '5' }, { path: '.wh.notthere' }],
    );
    const script = 'mount -t overlay -o "userxattr,lowerdir=$1:$2" none "$3" && cd "$3" && find . | sort';
    mkdirSync(join(work, 'merged'));
    const argv = ['unshare', '--mount', 'sh', '-c', script, 'sh', upper, lower, join(work, 'merged')];
    expect((await asOwner(argv)).trim().split('\n')).toEqual(
      ['.', './a', './a/2', './b', './b/new', './e', './e/new', './g', './g/new', './h'].sort(),
    );
  });

  test('may be compressed in several ways, and come in any pieces', async () => {
    const archive = rawTar({ path: 'a', content: 'x'.repeat(5000) }, { path: 'b', content: 'y'.repeat(2000) });
    const [half, rest] = [archive.subarray(0, 3000), archive.subarray(3000)];
    const twice = (pack: (bytes: Buffer) => Buffer) => Buffer.concat([pack(half), pack(rest)]);
    const zstd = (bytes: Buffer) => compress(bytes, 'zstd');
    for (const [compression, blob] of [
      ['none', archive],
      ['gzip', twice((bytes) => gzipSync(bytes))],
      ['gzip', Buffer.concat([gzipSync(archive), Buffer.alloc(100)])],
      ['zstd', zstd(archive)],
      ['zstd', twice(zstd)],
    ] as const) {
      for (const pieceBytes of [1, 7, 4096]) {
        const own = new TestStore();
        const unpacker = await own.open();
        const diffId = sha256(archive);
        const sink = await unpacker.layer({ diffId, compression });
        for (let at = 0; at < blob.length; at += pieceBytes) await sink?.write(blob.subarray(at, at + pieceBytes));
        expect(await sink?.finish(), `${compression} in pieces of ${pieceBytes}`).toMatchObject({
          entries: 2,
          bytes: 7000,
        });
        await unpacker.close();
        await own.remove();
      }
    }
  });

  test.each(['gzip', 'zstd'] as const)(
    'that is cut off or damaged (%s) is refused, and leaves nothing',
    async (compression) => {
      const archive = rawTar({ path: 'a', content: 'x'.repeat(100_000) });
      const blob = compress(archive, compression);
      const damaged = Buffer.from(blob);
      damaged.fill(0xff, 20, 40);
      for (const bytes of [blob.subarray(0, -10), damaged, Buffer.from('no archive at all'), Buffer.alloc(0)]) {
        const unpacker = await store.open();
        const sink = await unpacker.layer({ diffId: sha256(archive), compression });
        await expect(sink?.write(bytes).then(() => sink.finish())).rejects.toMatchObject({
          code:
            bytes.length === 0 && compression === 'gzip' ? expect.stringMatching(/TSV_IMAGE|TSV_DIGEST/) : 'TSV_IMAGE',
        });
        await unpacker.close();
        expect(store.left).toEqual([]);
      }
    },
  );

  test('that is not the one of its diff id is refused, and leaves nothing', async () => {
    const diffId = `sha256:${'0'.repeat(64)}` as const;
    await expect(store.unpack(rawTar({ path: 'a' }), { diffId })).rejects.toMatchObject({ code: 'TSV_DIGEST' });
    expect(store.left).toEqual([]);
  });

  rootTest('a disk of its own is mounted')(
    'that does not fit on the disk leaves nothing, and says what to do',
    async () => {
      const small = join(work, 'disk');
      mkdirSync(small);
      await mustRun(['mount', '-t', 'tmpfs', '-o', 'size=4m', 'tsv-small', small], {
        code: 'TSV_INTERNAL',
        message: 'mount',
      });
      try {
        const own = new TestStore(small);
        const archive = rawTar(
          { path: 'a', content: Buffer.alloc(3_000_000) },
          { path: 'b', content: Buffer.alloc(3_000_000) },
        );
        await expect(own.unpack(archive)).rejects.toMatchObject({
          code: 'TSV_STORE',
          message: 'the disk of the store is full',
          hint: expect.stringContaining('tsv store gc'),
        });
        expect(own.left).toEqual([]);
      } finally {
        await mustRun(['umount', small], { code: 'TSV_INTERNAL', message: 'umount' });
      }
    },
  );
});

describe('archives of other programs', () => {
  const pieces = [1, 7, 512, 4096];
  const formats = [
    ['v7', '--format=v7'],
    ['ustar', '--format=ustar'],
    ['gnu', '--format=gnu'],
    ['oldgnu', '--format=oldgnu'],
    ['pax', '--format=posix'],
  ] as const;

  /** Something of everything; names that each format can hold. */
  function source(long: boolean): string {
    const folder = join(work, 'source');
    mkdirSync(join(folder, 'd/e'), { recursive: true });
    writeFileSync(join(folder, 'd/file'), 'x'.repeat(1000));
    writeFileSync(join(folder, 'd/e/empty'), '');
    execFileSync('ln', ['-s', 'd/file', join(folder, 'link')]);
    execFileSync('ln', [join(folder, 'd/file'), join(folder, 'hard')]);
    execFileSync('mkfifo', [join(folder, 'pipe')]);
    if (long) writeFileSync(join(folder, `d/${'n'.repeat(200)}`), 'long');
    return folder;
  }

  test.each(formats)('of GNU tar (%s) are read as what they were made of', async (name, format) => {
    const folder = source(name !== 'v7' && name !== 'ustar');
    // v7 has no fifos.
    const without = name === 'v7' ? ['--exclude=./pipe'] : [];
    const file = join(work, 'a.tar');
    execFileSync('tar', ['-C', folder, format, ...without, '--sort=name', '--mtime=@1700000000', '-cf', file, '.']);
    const archive = readFileSync(file);
    const all = readTar(archive);
    for (const size of pieces) expect(readTar(archive, size)).toEqual(all);
    const { fs } = await store.unpack(archive);
    execFileSync('diff', ['-r', '--no-dereference', '--exclude=pipe', folder, await ownCopy(fs)]);
    expect(all.find(({ path }) => path === './hard' || path === './d/file')?.content.length).toBe(1000);
    expect(all.filter(({ type }) => type === 'hardlink')).toHaveLength(1);
  });

  test.each(['USTAR', 'GNU', 'PAX'])("of Python's tarfile (%s) are read as what they were made of", async (format) => {
    const folder = source(format !== 'USTAR');
    const file = join(work, 'a.tar');
    python(
      'import sys,tarfile; t=tarfile.open(sys.argv[2],"w",format=getattr(tarfile,sys.argv[3]+"_FORMAT")); t.add(sys.argv[1],"."); t.close()',
      folder,
      file,
      format,
    );
    const archive = readFileSync(file);
    const all = readTar(archive);
    for (const size of pieces) expect(readTar(archive, size)).toEqual(all);
    const { fs } = await store.unpack(archive);
    execFileSync('diff', ['-r', '--no-dereference', '--exclude=pipe', folder, await ownCopy(fs)]);
  });

  test.each([
    ['gnu', '--format=gnu'],
    ['0.0', '--format=posix', '--sparse-version=0.0'],
    ['0.1', '--format=posix', '--sparse-version=0.1'],
    ['1.0', '--format=posix', '--sparse-version=1.0'],
  ])('with sparse files (%s) stay sparse', async (_, ...options) => {
    const folder = join(work, 'source');
    mkdirSync(folder);
    // 40 parts: more than one block of GNU's old map.
    python(
      `import sys
f = open(sys.argv[1] + '/parts', 'wb')
for i in range(40): f.seek(i * 200000); f.write(b'part %d' % i)
f.truncate(100000000); f.close()
f = open(sys.argv[1] + '/hole', 'wb'); f.truncate(5000000); f.close()
open(sys.argv[1] + '/after', 'w').write('after')`,
      folder,
    );
    const file = join(work, 'a.tar');
    execFileSync('tar', ['-C', folder, ...options, '--sparse', '-cf', file, 'parts', 'hole', 'after']);
    const { fs } = await store.unpack(readFileSync(file));
    const [ours, theirs] = [await list(fs), await list(folder)];
    for (const name of ['parts', 'hole', 'after']) {
      expect(ours[name]?.size).toBe(theirs[name]?.size);
      expect(ours[name]?.content).toBe(theirs[name]?.content);
    }
    expect(ours.parts?.blocks).toBeLessThan(2000);
    expect(ours.hole?.blocks).toBe(0);
  });

  /** The files as this user's, so that any program may read them. */
  async function ownCopy(fs: string): Promise<string> {
    if (map.rooted) return fs;
    const copy = join(work, 'copy');
    await asOwner(['cp', '-r', '-P', fs, copy]);
    await asOwner(['chown', '-R', '--no-dereference', '0:0', copy]);
    return copy;
  }
});

const int32 = (value: number): number[] => [...Buffer.from(new Int32Array([value]).buffer)];
const idMap = ([range]: typeof map.uids): string => `${range?.inside}:${range?.outside}:${range?.count}`;

/** What differs, one line each; blocks are the file system's affair, and umoci leaves the root folder's time as it is. */
function differences(ours: Record<string, Listed>, theirs: Record<string, Listed>): string[] {
  const names = [...new Set([...Object.keys(ours), ...Object.keys(theirs)])];
  const plain = (name: string, entry: Listed | undefined): string =>
    JSON.stringify(entry && { ...entry, blocks: 0, ...(name === '' ? { mtime: '' } : {}) });
  return names
    .filter((name) => plain(name, ours[name]) !== plain(name, theirs[name]))
    .map((name) => `${name}: ${plain(name, ours[name])} and ${plain(name, theirs[name])}`)
    .slice(0, 20);
}
