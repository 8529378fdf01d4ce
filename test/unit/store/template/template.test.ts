import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { templateFiles, templateParts, templatePaths } from '../../../../src/store/template/layout.ts';
import {
  disown,
  findTemplate,
  listTemplates,
  sealTemplate,
  type TemplateNote,
  whyUnusable,
} from '../../../../src/store/template/template.ts';

const key = 'a1'.repeat(32);
const note: TemplateNote = {
  key,
  box: 'debian-12',
  boxDigest: 'd1',
  accel: 'tcg',
  memoryBytes: 512 * 2 ** 20,
  cpus: 1,
  madeAt: '2026-01-01T00:00:00.000Z',
};
let store: string;

beforeEach(() => {
  store = mkdtempSync(join(tmpdir(), 'tsv-template-'));
});
afterEach(() => rmSync(store, { recursive: true }));

/** A folder with the three files, sealed. */
async function made(name: string, of: TemplateNote = note): Promise<string> {
  const dir = join(templatePaths(store, of.key).folder, name);
  mkdirSync(dir, { recursive: true });
  for (const part of templateParts) writeFileSync(join(dir, part), `${part} of ${name}`);
  await sealTemplate(dir, of);
  return dir;
}

const { finished, unfinished } = templatePaths('/store', key);

describe('a template', () => {
  test('is found by its key, and listed, once its folder has a final name', async () => {
    const dir = await made(`${finished}x`);
    await made(`${unfinished}y`);
    await made(`${templatePaths('/store', 'b2'.repeat(32)).finished}z`, { ...note, key: 'b2'.repeat(32) });
    expect(findTemplate(store, key)).toMatchObject({ ...note, dir, memory: join(dir, templateFiles.memory) });
    expect(listTemplates(store)).toHaveLength(2);
    expect(findTemplate(store, 'c3'.repeat(32))).toBeUndefined();
    expect(findTemplate(join(store, 'none'), key)).toBeUndefined();
  });

  test('of the same beginning, but another key, is not taken for it', async () => {
    await made(`${finished}x`, { ...note, key: `${key.slice(0, 32)}${'0'.repeat(32)}` });
    expect(findTemplate(store, key)).toBeUndefined();
  });

  test('is readable by nobody else', async () => {
    const dir = await made(`${finished}x`);
    expect(statSync(dir).mode & 0o077).toBe(0);
    // A QEMU that is a user of its own is shown the file itself.
    for (const part of templateParts) expect(statSync(join(dir, part)).mode & 0o777).toBe(0o644);
    expect(statSync(join(dir, templateFiles.metadata)).mode & 0o077).toBe(0);
  });

  test('that is as it was made can be used, also thoroughly looked at', async () => {
    const dir = await made(`${finished}x`);
    expect(await whyUnusable(dir)).toBeUndefined();
    expect(await whyUnusable(dir, { thorough: true })).toBeUndefined();
  });

  test.each(templateParts)('whose %s has one other byte is not used, whatever its time says', async (part) => {
    const dir = await made(`${finished}x`);
    const file = join(dir, part);
    const { atime, mtime } = statSync(file);
    const bytes = readFileSync(file);
    bytes.writeUInt8(bytes.readUInt8(3) ^ 1, 3);
    writeFileSync(file, bytes);
    utimesSync(file, atime, mtime);
    expect(await whyUnusable(dir)).toBe(`its ${part} has other bytes than it was made with`);
  });

  test.each(templateParts)('whose %s is cut short or gone is not used', async (part) => {
    const dir = await made(`${finished}x`);
    truncateSync(join(dir, part), 3);
    expect(await whyUnusable(dir)).toBe(`its ${part} has another size`);
    rmSync(join(dir, part));
    expect(await whyUnusable(dir)).toBe(`its ${part} is missing`);
  });

  test('that was copied back from a backup is looked through once, and used', async () => {
    const dir = await made(`${finished}x`);
    const before = readFileSync(join(dir, templateFiles.metadata), 'utf8');
    for (const part of templateParts) {
      const content = readFileSync(join(dir, part));
      rmSync(join(dir, part));
      writeFileSync(join(dir, part), content);
    }
    expect(await whyUnusable(dir)).toBeUndefined();
    expect(readFileSync(join(dir, templateFiles.metadata), 'utf8')).not.toBe(before);
    expect(await whyUnusable(dir)).toBeUndefined();
  });

  test('that was disowned is none, and its disk stays', async () => {
    const dir = await made(`${finished}x`);
    disown(dir);
    expect(findTemplate(store, key)).toBeUndefined();
    expect(await whyUnusable(dir)).toBe('it is not complete');
    expect(statSync(join(dir, templateFiles.disk)).isFile()).toBe(true);
  });

  test('with torn metadata is none', async () => {
    const dir = await made(`${finished}x`);
    truncateSync(join(dir, templateFiles.metadata), 40);
    expect(findTemplate(store, key)).toBeUndefined();
  });
});
