import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { removeStateDir } from '../../../src/state/remove.ts';
import { projectFolder } from './fixtures.ts';

const folder = (): string => {
  const { dir, remove } = projectFolder();
  onTestFinished(remove);
  for (const path of ['machines/web/upper', 'volumes/.new-1a2b3c', 'volumes/.full-data'])
    mkdirSync(join(dir, '.ts-vm', path), { recursive: true });
  writeFileSync(join(dir, '.ts-vm/state.json'), '{}');
  return dir;
};

test('a state folder goes as a whole, with what volumes were to begin with', () => {
  const dir = folder();
  removeStateDir(dir);
  expect(readdirSync(dir)).toEqual([]);
  removeStateDir(dir);
});

test('volumes that are still there stay where they are', () => {
  const dir = folder();
  mkdirSync(join(dir, '.ts-vm/volumes/data'));
  writeFileSync(join(dir, '.ts-vm/volumes/data/file'), 'kept');
  removeStateDir(dir);
  expect(readdirSync(join(dir, '.ts-vm'))).toEqual(['volumes']);
  expect(readdirSync(join(dir, '.ts-vm/volumes'))).toEqual(['data']);
  expect(existsSync(join(dir, '.ts-vm/volumes/data/file'))).toBe(true);
});
