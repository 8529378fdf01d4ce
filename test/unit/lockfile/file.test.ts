import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { readLock, writeLock } from '../../../src/lockfile/file.ts';
import type { LockFile } from '../../../src/lockfile/format.ts';

function folder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'tsv-lock-'));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  return dir;
}

const lock: LockFile = {
  boxes: {},
  images: { 'docker.io/library/nginx:1': { digest: `sha256:${'a'.repeat(64)}`, date: 'now', source: 'docker.io' } },
};

describe('Tsfile.lock', () => {
  test('is written and read, and nothing else is left in the folder', () => {
    const dir = folder();
    expect(readLock(dir)).toBeUndefined();
    writeLock(dir, lock);
    expect(readLock(dir)).toEqual(lock);
    writeLock(dir, { boxes: {}, images: {} });
    expect(readLock(dir)).toEqual({ boxes: {}, images: {} });
    expect(readdirSync(dir)).toEqual(['Tsfile.lock']);
  });

  test('that is a symbolic link is neither read nor written, nor is what it leads to', () => {
    const dir = folder();
    writeFileSync(join(dir, 'target'), 'version: 1\n');
    symlinkSync('target', join(dir, 'Tsfile.lock'));
    expect(() => readLock(dir)).toThrow(/it is a symbolic link/);
    expect(() => writeLock(dir, lock)).toThrow(/it is no plain file/);
    expect(readFileSync(join(dir, 'target'), 'utf8')).toBe('version: 1\n');
    expect(readdirSync(dir).sort()).toEqual(['Tsfile.lock', 'target']);
  });

  test('that is a folder or a pipe is an error at once', () => {
    const dir = folder();
    mkdirSync(join(dir, 'Tsfile.lock'));
    expect(() => readLock(dir)).toThrow(/it is no plain file/);
    expect(() => writeLock(dir, lock)).toThrow(/it is no plain file/);
  });

  test('that is too large is not read', () => {
    const dir = folder();
    writeFileSync(join(dir, 'Tsfile.lock'), Buffer.alloc((1 << 20) + 1, '\n'));
    expect(() => readLock(dir)).toThrow(/larger than any lock file/);
  });

  test('that cannot be written leaves nothing', () => {
    const dir = join(folder(), 'gone');
    expect(() => writeLock(dir, lock)).toThrow();
    expect(existsSync(dir)).toBe(false);
  });
});
