import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { readLayers } from '../../../src/oci/layers.ts';
import { setAttribute } from '../../../src/sys/files.ts';

/** Layers from the lowest up, each with texts by path; links are `-> target`, folders end in a slash. */
function layers(...contents: readonly Readonly<Record<string, string>>[]): string[] {
  const dir = mkdtempSync(join(tmpdir(), 'tsv-layers-'));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  return contents
    .map((files, index) => {
      const layer = join(dir, String(index));
      mkdirSync(layer);
      for (const [path, text] of Object.entries(files)) {
        const place = join(layer, path);
        mkdirSync(path.endsWith('/') ? place : join(place, '..'), { recursive: true });
        if (text.startsWith('-> ')) symlinkSync(text.slice(3), place);
        else if (!path.endsWith('/')) writeFileSync(place, text);
      }
      return layer;
    })
    .reverse();
}

describe('a file of layers', () => {
  test('is that of the uppermost layer that has it', () => {
    const all = layers({ 'etc/passwd': 'low', 'etc/group': 'low' }, { 'etc/passwd': 'high' }, { 'etc/motd': 'top' });
    expect(readLayers(all, '/etc/passwd')).toBe('high');
    expect(readLayers(all, '/etc/group')).toBe('low');
    expect(readLayers(all, '/etc/shadow')).toBeUndefined();
    expect(readLayers(all, '/etc')).toBe('');
  });

  test('that an upper layer deletes is not there, nor is what was in a folder that it deletes', ({ skip }) => {
    const all = layers({ 'etc/passwd': 'low', 'home/a': 'low' }, { 'etc/motd': 'new' }, { 'other/': '' });
    for (const name of ['etc/passwd', 'home']) {
      // Everybody may make this one device (mknod(2), since Linux 5.8).
      const made = spawnSync('mknod', [join(all[1] ?? '', name), 'c', '0', '0']);
      if (made.status !== 0) skip(String(made.stderr));
    }
    expect(readLayers(all, '/etc/passwd')).toBeUndefined();
    expect(readLayers(all, '/home')).toBeUndefined();
    expect(readLayers(all, '/home/a')).toBeUndefined();
  });

  test('below an opaque folder is not seen', ({ skip }) => {
    const all = layers({ 'etc/passwd': 'low', 'etc/deep/file': 'low' }, { 'etc/motd': 'new' });
    if (setAttribute(join(all[0] ?? '', 'etc'), 'user.overlay.opaque', Buffer.from('y')) !== 0)
      skip('the file system for temporary files has no attributes of users');
    expect(readLayers(all, '/etc/passwd')).toBeUndefined();
    expect(readLayers(all, '/etc/deep/file')).toBeUndefined();
    expect(readLayers(all, '/etc/motd')).toBe('new');
  });

  test('whose folder became a file, or a file a folder, is what is uppermost', () => {
    const all = layers({ 'a/file': 'low', b: 'low' }, { a: 'file now', 'b/': '' }, { 'other/': '' });
    expect(readLayers(all, '/a/file')).toBeUndefined();
    expect(readLayers(all, '/a')).toBe('file now');
    expect(readLayers(all, '/b')).toBe('');
    // A folder over a file over a folder shows nothing of the lowest.
    const covered = layers({ 'a/file': 'low' }, { a: 'a file' }, { 'a/other': 'top' });
    expect(readLayers(covered, '/a/file')).toBeUndefined();
    expect(readLayers(covered, '/a/other')).toBe('top');
  });

  test('is found through links, whichever layer what they lead to is in, and never outside', () => {
    const outside = layers({ secret: 'of the host' });
    const all = layers(
      { 'usr/etc/passwd': 'low', 'etc/group': 'group' },
      { 'etc/passwd': '-> ../usr/etc/passwd', absolute: '-> /etc/group', up: '-> ../../../../../etc/group' },
      { host: `-> ${outside[0]}/secret`, folder: '-> usr/etc', circle: '-> circle' },
    );
    expect(readLayers(all, '/etc/passwd')).toBe('low');
    expect(readLayers(all, '/absolute')).toBe('group');
    expect(readLayers(all, '/up')).toBe('group');
    expect(readLayers(all, '/folder/passwd')).toBe('low');
    expect(readLayers(all, '/folder/../etc/passwd')).toBe('low');
    expect(readLayers(all, '/host')).toBeUndefined();
    expect(readLayers(all, '/circle')).toBeUndefined();
    expect(readLayers(all, `/..${outside[0]}/secret`)).toBeUndefined();
  });

  test('that is too large to be one of these is empty', () => {
    const all = layers({ 'etc/passwd': 'x'.repeat((1 << 20) + 1) });
    expect(readLayers(all, '/etc/passwd')).toBe('');
  });
});
