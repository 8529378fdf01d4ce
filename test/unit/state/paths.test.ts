import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  ensureRunDir,
  existingRunDir,
  projectPaths,
  type RunDirHost,
  runDir,
  runPaths,
  socketPathLimit,
  storeDir,
} from '../../../src/state/paths.ts';
import { projectFolder } from './fixtures.ts';

let folder: ReturnType<typeof projectFolder>;
let dir: string;
beforeEach(() => {
  folder = projectFolder();
  dir = folder.dir;
});
afterEach(() => folder.remove());

const code = (expected: string) => expect.objectContaining({ code: expected });
const uid = process.getuid?.() ?? 0;

describe('paths', () => {
  test('a machine whose name would lead out of the folder has no path', () => {
    const paths = projectPaths('/p');
    expect(paths.machineDir('web-1')).toBe('/p/.ts-vm/machines/web-1');
    for (const name of ['..', '.', '', 'a/b', '../x', 'A', '-a', 'a'.repeat(64)]) {
      expect(() => paths.machineDir(name)).toThrow(code('TSV_INTERNAL'));
    }
  });

  test('the store is $TSV_STORE, $XDG_DATA_HOME/ts-vm or ~/.local/share/ts-vm; relative values do not count', () => {
    const HOME = '/home/u';
    expect(storeDir({ HOME })).toBe('/home/u/.local/share/ts-vm');
    expect(storeDir({ HOME, XDG_DATA_HOME: '/data' })).toBe('/data/ts-vm');
    expect(storeDir({ HOME, XDG_DATA_HOME: 'data' })).toBe('/home/u/.local/share/ts-vm');
    expect(storeDir({ HOME, XDG_DATA_HOME: '/data', TSV_STORE: '/store' })).toBe('/store');
  });
});

describe('the run folder', () => {
  let host: RunDirHost;
  beforeEach(() => {
    host = { uid, userRunBase: join(dir, 'run-user'), tmp: join(dir, 'tmp') };
    mkdirSync(host.tmp);
  });
  const privateFolder = (path: string): string => {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    return path;
  };

  test('lies in $XDG_RUNTIME_DIR, under a name made from the real path of the project', () => {
    const xdg = privateFolder(join(dir, 'xdg'));
    symlinkSync(dir, join(dir, 'link'));
    const path = runDir(dir, { XDG_RUNTIME_DIR: xdg }, host);
    expect(path).toMatch(new RegExp(`^${xdg}/tsv/[0-9a-f]{16}$`));
    expect(runDir(join(dir, 'link'), { XDG_RUNTIME_DIR: xdg }, host)).toBe(path);
    expect(runDir(host.tmp, { XDG_RUNTIME_DIR: xdg }, host)).not.toBe(path);
  });

  test('without the variable lies in /run/user/UID when that is there, else in /tmp/tsv-UID', () => {
    expect(runDir(dir, {}, host)).toMatch(new RegExp(`^${host.tmp}/tsv-${uid}/[0-9a-f]{16}$`));
    const own = privateFolder(join(host.userRunBase, String(uid)));
    expect(runDir(dir, {}, host)).toMatch(new RegExp(`^${own}/tsv/[0-9a-f]{16}$`));
  });

  test.each([
    ['is relative', () => 'run'],
    ['does not exist', () => join(dir, 'absent')],
    ['is too long for socket paths', () => privateFolder(join(dir, 'x'.repeat(60)))],
    [
      'can be written by others, as /tmp can',
      () => {
        const open = privateFolder(join(dir, 'open'));
        chmodSync(open, 0o1777);
        return open;
      },
    ],
    [
      'is a symlink',
      () => {
        symlinkSync(privateFolder(join(dir, 'real')), join(dir, 'sym'));
        return join(dir, 'sym');
      },
    ],
  ])('passes over an $XDG_RUNTIME_DIR that %s', (_, make) => {
    expect(runDir(dir, { XDG_RUNTIME_DIR: make() }, host)).toContain(`${host.tmp}/tsv-${uid}/`);
  });

  test('is made private, and found again', () => {
    expect(existingRunDir(dir, {}, host)).toBeUndefined();
    expect(readdirSync(host.tmp)).toEqual([]);
    const path = ensureRunDir(dir, {}, host);
    for (const made of [path, join(host.tmp, `tsv-${uid}`)]) expect(statSync(made).mode & 0o777).toBe(0o700);
    expect(ensureRunDir(dir, {}, host)).toBe(path);
    expect(existingRunDir(dir, {}, host)).toBe(path);
  });

  test.each([
    ['a symlink', (path: string) => symlinkSync(privateFolder(join(dir, 'trap')), path)],
    ['a file', (path: string) => writeFileSync(path, '')],
    ['open to others', (path: string) => chmodSync(privateFolder(path), 0o755)],
  ])('is refused when /tmp/tsv-UID is %s', (_, make) => {
    make(join(host.tmp, `tsv-${uid}`));
    expect(() => runDir(dir, {}, host)).toThrow(code('TSV_STATE_UNSAFE'));
    expect(() => ensureRunDir(dir, {}, host)).toThrow(code('TSV_STATE_UNSAFE'));
  });

  test('is refused when a symlink lies in its place', () => {
    const path = ensureRunDir(dir, {}, host);
    execFileSync('rmdir', [path]);
    symlinkSync(privateFolder(join(dir, 'trap')), path);
    expect(() => ensureRunDir(dir, {}, host)).toThrow(code('TSV_STATE_UNSAFE'));
    expect(() => existingRunDir(dir, {}, host)).toThrow(code('TSV_STATE_UNSAFE'));
  });

  test('has room for the socket of a machine with the longest name', () => {
    // The longest base that is accepted.
    const base = `/${'r'.repeat(107 - 42 - 12 - 1 - 4 - 1)}`;
    const paths = runPaths(`${base}/tsv/0123456789ab`);
    const socket = join(paths.machineDir('m'.repeat(63)), '0123456789.sock');
    expect(Buffer.byteLength(socket)).toBeLessThanOrEqual(socketPathLimit);
    expect(paths.machineDir(`${'m'.repeat(62)}a`)).not.toBe(paths.machineDir(`${'m'.repeat(62)}b`));
    expect(paths.machineDir('web-1')).toBe(`${base}/tsv/0123456789ab/web-1`);
  });
});
