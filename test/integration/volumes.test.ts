import { chmodSync, existsSync, lchownSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished } from 'vitest';
import type { Machine } from '../../src/model/project.ts';
import type { BoxRef } from '../../src/model/provider.ts';
import { type Container, containerTests } from '../support/containers.ts';

/* Volumes of a project: folders that its containers share. */

const { test, lab } = containerTests(import.meta.filename);

/** Busybox alone, with a folder at /data. */
function withData(): BoxRef {
  const box = lab().image((rootfs) => {
    mkdirSync(join(rootfs, 'data/sub'), { recursive: true });
    writeFileSync(join(rootfs, 'data/sub/file'), 'of the image');
    chmodSync(join(rootfs, 'data'), 0o1777);
  });
  const sub = join(box.layers?.[0] ?? '', 'data/sub');
  lchownSync(sub, lab().idOutside(999), lab().idOutside(998));
  chmodSync(sub, 0o750);
  return box;
}
const bare = (): BoxRef => lab().image();
const folderOf = (volume: string): string => join(lab().folder, 'volumes', volume);

let count = 0;
/** A container with a volume of the test's own at /data. */
function user(volume: string, box: BoxRef, machine: Partial<Machine> = {}): Container {
  const uses = [{ name: volume, guest: '/data', readonly: false }];
  const made = lab().container({ box, machine: { command: ['sleep', '1000'], volumes: uses, ...machine } });
  onTestFinished(() => made.destroy());
  return made;
}
const newVolume = (): string => `v${count++}`;

describe('a volume of the project', () => {
  test('is one folder for all containers that have it, with ids that fit, and outlives them', async () => {
    const volume = newVolume();
    const [one, two] = [user(volume, withData()), user(volume, bare())];
    await one.start();
    await two.start();
    await one.sh('echo mine > /data/mine', { user: '1234' });
    expect(await two.sh('stat -c "%u:%g %a" /data /data/mine /data/sub; cat /data/sub/file /data/mine')).toBe(
      '0:0 1777\n1234:0 644\n999:998 750\nof the imagemine',
    );
    expect(statSync(join(folderOf(volume), 'mine')).uid).toBe(lab().idOutside(1234));
    await one.destroy();
    const three = user(volume, withData());
    await three.start();
    expect(await three.sh('cat /data/mine')).toBe('mine');
  });

  test('cannot be written where it is read-only', async () => {
    const volume = newVolume();
    const writer = user(volume, bare());
    const reader = user(volume, bare(), { volumes: [{ name: volume, guest: '/r', readonly: true }] });
    await writer.start();
    await reader.start();
    await writer.sh('echo text > /data/file');
    expect(await reader.sh('cat /r/file; echo no > /r/file')).toMatch(/^text\n.*Read-only file system/);
  });

  test('that holds nothing gets what the image of a new container has, though another has it mounted; and only then', async () => {
    const volume = newVolume();
    const first = user(volume, bare());
    await first.start();
    expect(await first.sh('ls -A /data; stat -c "%u:%g %a" /data')).toBe('0:0 755');
    const second = user(volume, withData());
    await second.start();
    expect(await first.sh('cat /data/sub/file; stat -c "%u %a" /data /data/sub')).toBe('of the image0 1777\n999 750');
    await first.sh('/bin/busybox rm -r /data/sub');
    await second.stop(true);
    await second.start();
    expect(await second.sh('ls -A /data')).toBe('');
  });

  test('goes on to be filled after a kill, and what was half copied does not count', async () => {
    const volume = newVolume();
    const folder = folderOf(volume);
    const [half, whole] = ['.new-abcdef', `.full-${volume}`].map((name) => join(folderOf(name)));
    for (const path of [half, whole, folder]) mkdirSync(path ?? '', { recursive: true });
    writeFileSync(join(half ?? '', 'file'), 'half');
    for (const name of ['file', 'other']) writeFileSync(join(whole ?? '', name), 'whole');
    writeFileSync(join(folder, 'file'), 'of a container');
    for (const path of [folder, whole ?? '']) lchownSync(path, lab().idOutside(0), lab().idOutside(0));
    const container = user(volume, withData(), { volumes: [...uses(volume, '/data'), ...uses(newVolume(), '/new')] });
    await container.start();
    expect(await container.sh('ls /data; cat /data/file /data/other')).toBe('file\nother\nof a containerwhole');
    expect(readdirSync(join(folder, '..')).filter((name) => name.startsWith('.'))).toEqual([]);
  });

  test('of which only what it was to begin with is left begins anew', async () => {
    const volume = newVolume();
    const old = folderOf(`.full-${volume}`);
    mkdirSync(old, { recursive: true });
    writeFileSync(join(old, 'file'), 'of one that was removed');
    const container = user(volume, withData());
    await container.start();
    expect(await container.sh('ls /data')).toBe('sub');
    expect(existsSync(old)).toBe(false);
  });

  test('is made once where containers come to it at the same time', async () => {
    const volume = newVolume();
    const containers = Array.from({ length: 4 }, () => user(volume, withData()));
    await Promise.all(containers.map((container) => container.start()));
    await containers[0]?.sh('echo one > /data/one');
    expect(await containers[3]?.sh('cat /data/one /data/sub/file')).toBe('one\nof the image');
  });

  test('takes the place of a volume of the image', async () => {
    const volume = newVolume();
    const box = {
      ...withData(),
      defaults: { env: [], exposedPorts: [], volumes: ['/data'], labels: {} },
    };
    const container = user(volume, box, { image: {} });
    await container.start();
    await container.sh('echo text > /data/file');
    expect(readdirSync(folderOf(volume)).toSorted()).toEqual(['file', 'sub']);
    expect(existsSync(join(container.context.dir, 'volumes'))).toBe(false);
  });
});

const uses = (name: string, guest: string) => [{ name, guest, readonly: false }];
