import {
  chmodSync,
  closeSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Notes } from '../../src/copy/failures.ts';
import { pack } from '../../src/copy/pack.ts';
import { copyPath } from '../../src/copy/path.ts';
import { sameIds } from '../../src/copy/types.ts';
import { Unpacker } from '../../src/copy/unpack.ts';
import type { CopySource } from '../../src/model/provider.ts';
import { readTar } from '../support/read-tar.ts';
import { type RawEntry, rawTar } from '../support/tar.ts';

/** A folder that stands for a root of all files, and what is outside it. */
function lab() {
  const dir = mkdtempSync(join(tmpdir(), 'tsv-copy-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  const root = join(dir, 'root');
  mkdirSync(root);
  writeFileSync(join(dir, 'outside'), 'secret');
  const at = (path: string): string => join(root, path);
  const open = (): number => {
    const fd = openSync(root, 'r');
    onTestFinished(() => closeSync(fd));
    return fd;
  };
  const notes = new Notes();
  const packed = (path: string, follow = false): Buffer =>
    Buffer.concat([...pack({ root: open(), path: copyPath(path), follow, ids: sameIds, notes })]);
  const unpack = (archive: Buffer, path: string, source?: CopySource): void => {
    const options = { root: open(), path: copyPath(path), owners: 'own', ids: sameIds, notes } as const;
    const unpacker = new Unpacker({ ...options, ...(source === undefined ? {} : { source }) });
    try {
      for (let byte = 0; byte < archive.length; byte += 700) unpacker.push(archive.subarray(byte, byte + 700));
      unpacker.finish();
    } finally {
      unpacker.close();
    }
  };
  /** As `tsv cp` does it. */
  const copy = (from: string, to: string): void => {
    const archive = packed(from);
    const [first] = readTar(archive);
    const { name, isContent } = copyPath(from);
    unpack(archive, to, { name: isContent ? '.' : name, folder: first?.type === 'directory', as: name });
  };
  return { dir, root, at, notes, packed, unpack, copy };
}

const names = (folder: string): string[] => (readdirSync(folder, { recursive: true }) as string[]).sort();
const file = (entry: RawEntry): RawEntry => ({ content: 'new', ...entry });

describe('what is copied', () => {
  test('comes out as it went in: modes, times, links, holes, names of any bytes, long ones too', () => {
    const { at, copy } = lab();
    const long = 'n'.repeat(200);
    mkdirSync(join(at('a'), 'deep', 'er'), { recursive: true });
    writeFileSync(at('a/program'), Buffer.from([0, 255, 10, 0]), { mode: 0o755 });
    chmodSync(at('a/program'), 0o751);
    utimesSync(at('a/program'), 1_000_000, 1_000_000);
    writeFileSync(at(`a/deep/${long}`), 'long');
    writeFileSync(Buffer.concat([Buffer.from(`${at('a/deep/er')}/`), Buffer.from([0xff, 0xe4, 0x20])]), 'bytes');
    symlinkSync('/nowhere', at('a/link'));
    symlinkSync('t'.repeat(300), at('a/long-link'));
    linkSync(at('a/program'), at('a/same'));
    writeFileSync(at('a/empty'), '');
    const sparse = openSync(at('a/sparse'), 'w');
    truncateSync(at('a/sparse'), 300_000);
    writeSync(sparse, 'in the middle', 150_000);
    closeSync(sparse);
    utimesSync(at('a/deep'), 2_000_000, 2_000_000);
    chmodSync(at('a/deep'), 0o750);

    copy('a', 'b');
    expect(names(at('b'))).toEqual(names(at('a')));
    expect(readFileSync(at('b/program'))).toEqual(Buffer.from([0, 255, 10, 0]));
    expect(statSync(at('b/program'))).toMatchObject({ mode: 0o100751, mtimeMs: 1_000_000_000, nlink: 2 });
    expect(statSync(at('b/same')).ino).toBe(statSync(at('b/program')).ino);
    expect(statSync(at('b/deep'))).toMatchObject({ mode: 0o40750, mtimeMs: 2_000_000_000 });
    expect(readlinkSync(at('b/link'))).toBe('/nowhere');
    expect(readlinkSync(at('b/long-link'))).toBe('t'.repeat(300));
    expect(readFileSync(at(`b/deep/${long}`), 'utf8')).toBe('long');
    const odd = readdirSync(at('b/deep/er'), { encoding: 'latin1' });
    expect(odd).toEqual(['\xff\xe4 ']);
    expect(readFileSync(at('b/sparse'))).toEqual(readFileSync(at('a/sparse')));
    expect(statSync(at('b/sparse')).blocks).toBe(statSync(at('a/sparse')).blocks);
  });

  test('is a folder in a folder, what is in it, or a new name, as with docker cp', () => {
    const { at, copy } = lab();
    mkdirSync(at('src'));
    writeFileSync(at('src/f'), 'f');
    writeFileSync(at('file'), 'file');
    mkdirSync(at('there'));
    copy('src', 'there');
    copy('src/.', 'there');
    copy('src/', 'new');
    copy('src/.', 'newer');
    copy('file', 'there');
    copy('file', 'there/name');
    copy('file', 'new/f');
    expect(names(at('there'))).toEqual(['f', 'file', 'name', 'src', 'src/f']);
    expect(names(at('newer'))).toEqual(['f']);
    expect(readFileSync(at('new/f'), 'utf8')).toBe('file');
    symlinkSync('there', at('to-there'));
    copy('file', 'to-there/by-link');
    copy('file', 'to-there');
    expect(existsSync(at('there/by-link'))).toBe(true);
    expect(lstatSync(at('to-there')).isSymbolicLink()).toBe(true);
    // A link to a file: what it leads to is replaced.
    symlinkSync('/there/name', at('to-name'));
    copy('src/f', 'to-name');
    expect(readFileSync(at('there/name'), 'utf8')).toBe('f');
    expect(lstatSync(at('to-name')).isSymbolicLink()).toBe(true);
  });

  test.each([
    ['nothing', 'x', '/nothing: no such file or folder'],
    ['file/', 'x', '/file: not a folder'],
    ['file', 'no/x', '/no/x: the folder /no does not exist'],
    ['file', 'no/', '/no: no such folder'],
    ['file', 'file/', '/file: not a folder'],
    ['folder', 'file', '/file: a folder cannot be copied onto a file'],
    ['file', 'full', 'file: a folder is in its place'],
    ['folder', 'full-too', 'folder/: a folder cannot be copied onto a file'],
    ['link-in-a-circle/', 'x', '/link-in-a-circle: symbolic links lead in a circle'],
  ])('%s to %s is refused, with the reason', (from, to, message) => {
    const { at, copy } = lab();
    writeFileSync(at('file'), 'file');
    mkdirSync(at('folder'));
    mkdirSync(at('full/file'), { recursive: true });
    mkdirSync(at('full-too'));
    writeFileSync(at('full-too/folder'), '');
    symlinkSync('link-in-a-circle', at('link-in-a-circle'));
    const before = names(at('.'));
    expect(() => copy(from, to)).toThrow(expect.objectContaining({ code: 'TSV_COPY', message }));
    expect(names(at('.'))).toEqual(before);
  });

  test('of a link is the link; with follow, or where it has to be a folder, what it leads to', () => {
    const { at, packed } = lab();
    mkdirSync(at('folder'));
    writeFileSync(at('folder/f'), 'f');
    symlinkSync('/folder', at('link'));
    expect(readTar(packed('link')).map(({ type, path }) => `${type} ${path}`)).toEqual(['symlink link']);
    expect(readTar(packed('link', true)).map(({ path }) => path)).toEqual(['link/', 'link/f']);
    expect(readTar(packed('link/')).map(({ path }) => path)).toEqual(['link/', 'link/f']);
    expect(readTar(packed('link/.')).map(({ path }) => path)).toEqual(['./', './f']);
  });

  test('leaves the file as it was, and nothing beside it, when the archive is cut off', () => {
    const { at, packed, unpack } = lab();
    writeFileSync(at('big'), Buffer.alloc(100_000, 1));
    mkdirSync(at('to'));
    writeFileSync(at('to/big'), 'old');
    const archive = packed('big');
    const source = { name: 'big', folder: false, as: 'big' };
    expect(() => unpack(archive.subarray(0, 50_000), 'to', source)).toThrow(/not a valid tar archive.*cut off/);
    expect(names(at('to'))).toEqual(['big']);
    expect(readFileSync(at('to/big'), 'utf8')).toBe('old');
  });

  test('holds what a file of the kernel says, which says of itself that it is empty', () => {
    const root = openSync('/', 'r');
    onTestFinished(() => closeSync(root));
    const options = { root, follow: false, ids: sameIds, notes: new Notes() };
    const archive = Buffer.concat([...pack({ ...options, path: copyPath('/proc/version') })]);
    expect(readTar(archive)[0]?.content.toString()).toBe(readFileSync('/proc/version', 'utf8'));
  });
});

describe('a hostile archive', () => {
  const source = { name: 'd', folder: true, as: 'd' };

  test.each<[string, readonly RawEntry[], RegExp]>([
    ['a path that leads out', [file({ path: '../x' })], /leads out/],
    ['a path that leads out further in', [file({ path: 'd/../../x' })], /leads out/],
    ['what was not asked for', [file({ path: '.bashrc' })], /not asked for/],
    ['a hard link to what is not in it', [{ path: 'd/x', type: '1', target: 'd/nothing' }], /not there/],
    ['a hard link out of it', [{ path: 'd/x', type: '1', target: 'd/../../outside' }], /leads out/],
  ])('with %s is refused', (_what, entries, why) => {
    const { dir, at, unpack } = lab();
    mkdirSync(at('to'));
    expect(() => unpack(rawTar(...entries), 'to', source)).toThrow(why);
    expect(names(dir).filter((name) => /^(?:root\/to\/d\/.*|x)$/.test(name))).toEqual([]);
  });

  test('that writes through its own links stays below the destination', () => {
    const { dir, at, unpack } = lab();
    mkdirSync(at('to'));
    const archive = rawTar(
      { path: 'd/', type: '5', mode: 0o755 },
      { path: 'd/up', type: '2', target: '../../../..' },
      file({ path: 'd/up/outside' }),
      { path: 'd/abs', type: '2', target: join(dir, 'outside') },
      file({ path: 'd/abs' }),
    );
    unpack(archive, 'to', source);
    expect(readFileSync(join(dir, 'outside'), 'utf8')).toBe('secret');
    expect(readFileSync(at('to/outside'), 'utf8')).toBe('new');
    expect(readFileSync(at('to/d/abs'), 'utf8')).toBe('new');
  });

  test('gives nobody a program of set-user-ID, and no device', () => {
    const { at, notes, unpack } = lab();
    const archive = rawTar({ path: 'd/', type: '5', mode: 0o755 }, file({ path: 'd/su', mode: 0o6755 }), {
      path: 'd/disk',
      type: '4',
    });
    unpack(archive, 'new', source);
    expect(names(at('new'))).toEqual(['su']);
    expect(statSync(at('new/su')).mode & 0o7777).toBe(0o755);
    expect(notes.all).toEqual(['d/disk: a device node, left out']);
  });
});
