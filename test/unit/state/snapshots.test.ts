import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import type { Snapshot } from '../../../src/model/snapshot.ts';
import {
  forgetMachine,
  readSnapshots,
  removeSnapshot,
  renameInSnapshots,
  writeSnapshot,
} from '../../../src/state/snapshots.ts';
import { machine, projectFolder } from './fixtures.ts';

let dir: string;
let folder: string;
beforeEach(() => {
  const project = projectFolder();
  onTestFinished(() => project.remove());
  dir = project.dir;
  mkdirSync(join(dir, '.ts-vm'), { mode: 0o700 });
  folder = join(dir, '.ts-vm', 'snapshots');
});

const snapshot = (name: string, at: string, ...machines: string[]): Snapshot => ({
  version: 1,
  name,
  at,
  machines: Object.fromEntries(
    machines.map((key) => {
      const { boxDigest, addresses, steps } = machine;
      const part = { tag: 'tsv-00', was: 'running', memory: true, bytes: 7, without: ['volume data'] } as const;
      return [key, { ...part, spec: { ...machine.spec, name: key }, boxDigest, addresses, steps, provider: { a: 1 } }];
    }),
  ),
});
const names = () => readSnapshots(dir).map(({ name }) => name);

test('snapshots come back as they were written, the oldest first, without scripts of provisioning steps', async () => {
  expect(readSnapshots(dir)).toEqual([]);
  const [late, early] = [
    snapshot('a', '2026-01-02T00:00:00.000Z', 'db'),
    snapshot('b', '2026-01-01T00:00:00.000Z', 'db', 'web'),
  ];
  await writeSnapshot(dir, late);
  await writeSnapshot(dir, early);
  const bare = ({ machines, ...rest }: Snapshot) => ({
    ...rest,
    machines: Object.fromEntries(
      Object.entries(machines).map(([key, one]) => [key, { ...one, spec: { ...one.spec, provision: [] } }]),
    ),
  });
  expect(readSnapshots(dir)).toEqual([bare(early), bare(late)]);
  expect(readFileSync(join(folder, 'a.json'), 'utf8')).not.toContain('secret');
});

test('what a killed writer left is no snapshot, and goes with the next one', async () => {
  await writeSnapshot(dir, snapshot('a', '2026', 'db'));
  writeFileSync(join(folder, 'b.json.0123456789abcdef.tmp'), '{"version":1,');
  expect(names()).toEqual(['a']);
  await writeSnapshot(dir, snapshot('c', '2026', 'db'));
  expect(readdirSync(folder).toSorted()).toEqual(['a.json', 'c.json']);
});

test.each([
  ['cut short', '{"version":1,'],
  ['of another name', JSON.stringify(snapshot('b', '2026', 'db'))],
  ['with a tag that could be an option', JSON.stringify(snapshot('a', '2026', 'db')).replace('tsv-00', '-l')],
  ['with a machine that leads elsewhere', JSON.stringify(snapshot('a', '2026', '../x'))],
])('a file that is %s is refused with its path', (_, content) => {
  mkdirSync(folder, { mode: 0o700 });
  writeFileSync(join(folder, 'a.json'), content, { mode: 0o600 });
  expect(() => readSnapshots(dir)).toThrow(
    expect.objectContaining({ code: 'TSV_STATE_CORRUPT', message: expect.stringContaining(join(folder, 'a.json')) }),
  );
});

test('no link is followed', () => {
  mkdirSync(folder, { mode: 0o700 });
  symlinkSync('/etc/passwd', join(folder, 'a.json'));
  expect(() => readSnapshots(dir)).toThrow(expect.objectContaining({ code: 'TSV_STATE_UNSAFE' }));
  rmSync(folder, { recursive: true });
  symlinkSync('/etc', folder);
  expect(() => readSnapshots(dir)).toThrow(expect.objectContaining({ code: 'TSV_STATE_UNSAFE' }));
});

test('a machine that is gone is taken out of all; one that is renamed goes on under its name', async () => {
  await writeSnapshot(dir, snapshot('a', '1', 'db'));
  await writeSnapshot(dir, snapshot('b', '2', 'db', 'web'));
  await renameInSnapshots(dir, 'db', 'store');
  await renameInSnapshots(dir, 'db', 'store');
  expect(readSnapshots(dir).map(({ machines }) => Object.keys(machines).toSorted())).toEqual([
    ['store'],
    ['store', 'web'],
  ]);
  expect(await forgetMachine(dir, 'store')).toEqual(['a', 'b']);
  expect(names()).toEqual(['b']);
  expect(existsSync(join(folder, 'a.json'))).toBe(false);
  expect(await forgetMachine(dir, 'store')).toEqual([]);
  removeSnapshot(dir, 'b');
  removeSnapshot(dir, 'b');
  expect(names()).toEqual([]);
});
