import { existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { diskImage, projectPaths } from '../../../src/state/paths.ts';
import { removeStateDir } from '../../../src/state/remove.ts';
import { projectFolder } from './fixtures.ts';

let folder: ReturnType<typeof projectFolder>;
let dir: string;
beforeEach(() => {
  folder = projectFolder();
  dir = folder.dir;
});
afterEach(() => folder.remove());

const fill = (...paths: readonly string[]): void => {
  const { stateDir } = projectPaths(dir);
  for (const path of paths) {
    mkdirSync(join(stateDir, path, '..'), { recursive: true });
    writeFileSync(join(stateDir, path), '');
  }
};

test('the state folder goes with all that is in it', () => {
  fill('state.json', 'machines/web/upper/x');
  mkdirSync(join(dir, '.ts-vm/disks/web'), { recursive: true });
  removeStateDir(dir);
  expect(existsSync(join(dir, '.ts-vm'))).toBe(false);
  removeStateDir(dir);
});

test('disks that were kept stay, and nothing else', () => {
  const { machineDir, stateDir } = projectPaths(dir);
  fill('state.json', 'machines/web/disks/tmp.img', 'disks/web/data.img');
  mkdirSync(join(stateDir, 'disks/db'));
  removeStateDir(dir);
  expect(readdirSync(stateDir, { recursive: true }).sort()).toEqual(['disks', 'disks/web', 'disks/web/data.img']);
  expect(diskImage(machineDir('web'), { name: 'data', keep: true })).toBe(join(stateDir, 'disks/web/data.img'));
  expect(diskImage(machineDir('web'), { name: 'tmp' })).toBe(join(stateDir, 'machines/web/disks/tmp.img'));
});

test('what a link in its place leads to stays as it is', () => {
  mkdirSync(join(dir, 'elsewhere'));
  writeFileSync(join(dir, 'elsewhere/precious'), '');
  symlinkSync('elsewhere', join(dir, '.ts-vm'));
  removeStateDir(dir);
  expect(readdirSync(dir)).toEqual(['elsewhere']);
  expect(readdirSync(join(dir, 'elsewhere'))).toEqual(['precious']);
});
