import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { ProvisionCache } from '../../../src/store/cache/cache.ts';
import { cacheFolder, makingNames } from '../../../src/store/cache/layout.ts';
import { templateFiles, templateParts } from '../../../src/store/template/layout.ts';
import { sealTemplate } from '../../../src/store/template/template.ts';
import {
  cacheLeftovers,
  idleLimitMs,
  type StoredCacheLayer,
  storedCache,
  unusedCache,
} from '../../../src/store/upkeep/cache.ts';
import { verifyStore } from '../../../src/store/upkeep/verify.ts';

const map = { rooted: false, uids: [], gids: [] };
const [a, b, c] = ['a', 'b', 'c'].map((digit) => digit.repeat(64)) as [string, string, string];
const wait = { signal: new AbortController().signal, progress: () => {} };

function lab() {
  const store = mkdtempSync(join(tmpdir(), 'tsv-cache-'));
  onTestFinished(() => rmSync(store, { recursive: true }));
  const cache = new ProvisionCache(store, map);
  const folder = cacheFolder(store, map);
  const project = join(store, 'project');
  mkdirSync(project);
  const save = (
    key: string,
    { text = 'x', anew = false, lower = [] as readonly string[], fill = async () => {} } = {},
  ): Promise<void> =>
    cache.save(key, {
      ...wait,
      anew,
      lower,
      project,
      machine: 'web',
      step: 's',
      fill: async (target) => {
        await fill();
        mkdirSync(join(target, 'fs'));
        writeFileSync(join(target, 'fs', 'file'), text);
      },
    });
  const names = (key: string) => cache.use(key, wait, async (all) => all);
  const content = async (key: string) =>
    readFileSync(join(cache.folders(await names(key))[0] ?? '', 'fs', 'file'), 'utf8');
  return { store, cache, folder, project, save, names, content };
}

describe("a virtual machine's layer", () => {
  test('of which a byte has changed is found, and no new machine is made from it nor from what rests on it', async () => {
    const { store, cache, project, names } = lab();
    const save = (key: string, lower: readonly string[]) =>
      cache.save(key, {
        ...{ ...wait, anew: false, lower, project, machine: 'vm', step: 's' },
        fill: async (target) => {
          for (const part of templateParts) writeFileSync(join(target, part), part);
          const note = {
            key: 'k',
            box: 'b',
            boxDigest: 'd',
            accel: 'tcg',
            memoryBytes: 1,
            cpus: 1,
            madeAt: '',
          } as const;
          await sealTemplate(target, note);
        },
      });
    await save(a, []);
    await save(b, await names(a));
    await save(c, []);
    expect((await verifyStore(store, map, wait)).problems).toEqual([]);
    const [layer = ''] = cache.folders((await names(a)).slice(0, 1));
    const memory = join(layer, templateFiles.memory);
    const { mtime } = statSync(memory);
    writeFileSync(memory, 'Memory', { flag: 'r+' });
    utimesSync(memory, mtime, mtime);
    expect((await verifyStore(store, map, wait)).problems).toEqual([
      {
        text: `${layer}: the provision layer is not used any more: its memory has other bytes than it was made with`,
        mend: 'tsv store gc',
      },
    ]);
    expect([...cache.keys()]).toEqual([c]);
  });
});

describe('a layer of the provision cache', () => {
  test('is there once it is whole, with what it rests on, and nothing else is left', async () => {
    const { cache, folder, save, names, content } = lab();
    await save(a);
    const below = await names(a);
    await save(b, { lower: below });
    expect([...cache.keys()].sort()).toEqual([a, b]);
    expect(await names(b)).toEqual([expect.stringMatching(`^${b}\\.1\\.`), ...below]);
    expect(await content(b)).toBe('x');
    expect(readdirSync(folder).filter((name) => name.startsWith('.'))).toEqual([]);
  });

  test('whose making fails is not there, and leaves nothing', async () => {
    const { cache, folder, save } = lab();
    const full = Object.assign(new Error('no space'), { code: 'ENOSPC' });
    await expect(save(a, { fill: () => Promise.reject(full) })).rejects.toBe(full);
    expect(cache.keys().size).toBe(0);
    expect(readdirSync(folder)).toEqual([]);
  });

  test('is not made twice: not when it is there, nor while somebody else makes it', async () => {
    const { folder, save, content } = lab();
    let second: Promise<void> | undefined;
    await save(a, {
      text: 'first',
      fill: async () => {
        second = save(a, { text: 'second' });
        await second;
      },
    });
    await save(a, { text: 'third' });
    expect(readdirSync(folder)).toHaveLength(1);
    expect(await content(a)).toBe('first');
  });

  test('made anew counts from then on, and those who use the old one keep it', async () => {
    const { cache, save, names, content } = lab();
    await save(a, { text: 'old' });
    const [old = ''] = await names(a);
    await save(a, { text: 'new', anew: true });
    expect(await content(a)).toBe('new');
    expect(readFileSync(join(cache.folders([old])[0] ?? '', 'fs', 'file'), 'utf8')).toBe('old');
    cache.forget([a, b]);
    expect(cache.keys().size).toBe(0);
    await expect(names(a)).rejects.toMatchObject({ code: 'TSV_CACHE' });
    await save(a, { text: 'newest' });
    expect(await content(a)).toBe('newest');
  });

  test('does not count without what it rests on, nor half there', async () => {
    const { store, cache, folder, save, names } = lab();
    await save(a);
    const below = await names(a);
    await save(b, { lower: below });
    rmSync(join(folder, below[0] ?? ''), { recursive: true });
    expect(cache.keys().size).toBe(0);
    expect(storedCache(store, map).map(({ live }) => live)).toEqual([false]);
    expect(() => cache.folders(below)).toThrow(expect.objectContaining({ code: 'TSV_CACHE' }));
    const { unfinished } = makingNames(a);
    mkdirSync(join(folder, `${unfinished}killed`, 'fs'), { recursive: true });
    mkdirSync(join(folder, `${a}.7.00000000`, 'fs'), { recursive: true });
    expect(cache.keys().size).toBe(0);
    await save(a);
    expect([...cache.keys()]).toEqual([a]);
    for (const name of await names(a)) rmSync(join(folder, name, 'fs'), { recursive: true });
    expect(cache.keys().size).toBe(0);
    expect(existsSync(join(folder, `${unfinished}killed`))).toBe(false);
  });
});

describe('what the store removes of the provision cache', () => {
  const look = (store: string, machines: readonly string[][] = [], all = false, mounted: readonly string[] = []) => {
    const uses = machines.map((layers) => ({ machine: 'web', projectDir: '/p', running: false, digest: '', layers }));
    return unusedCache(storedCache(store, map), { machines: uses }, new Set(mounted), all).map(({ name }) => name);
  };

  test('is what no machine uses and no new one was made from for a month; with --all, what no machine uses', async () => {
    const { store, folder, save, names } = lab();
    await save(a);
    const below = await names(a);
    await save(b, { lower: below });
    const above = (await names(b)).slice(0, 1);
    expect(look(store)).toEqual([]);
    expect(look(store, [], true).sort()).toEqual([...below, ...above].sort());
    expect(look(store, [[...above, ...below]], true)).toEqual([]);
    expect(look(store, [[...below]], true)).toEqual(above);
    expect(look(store, [], true, [`${above[0]}/fs`])).toEqual([]);
    const long = new Date(Date.now() - idleLimitMs - 1000);
    for (const name of [...below, ...above]) utimesSync(join(folder, name, 'layer.json'), long, long);
    expect(look(store)).toHaveLength(2);
    await names(b); // a machine is made from it
    expect(look(store), 'with what it rests on').toEqual([]);
  });

  test('is also what was made anew or forgotten, and what a kill left', async () => {
    const { store, cache, folder, save, names } = lab();
    await save(a);
    const old = (await names(a)).slice(0, 1);
    await save(a, { anew: true });
    expect(look(store)).toEqual(old);
    expect(look(store, [[...old]])).toEqual([]);
    cache.forget([a]);
    expect(look(store)).toHaveLength(2);
    mkdirSync(join(folder, `${makingNames(b).unfinished}XXXXXX`));
    expect(cacheLeftovers(store)).toEqual([
      { path: join(folder, `${makingNames(b).unfinished}XXXXXX`), lock: join(folder, makingNames(b).lock) },
    ]);
  });

  test('is also what belongs to a project whose folder is gone', async () => {
    const { store, project, save } = lab();
    await save(a);
    expect(look(store)).toEqual([]);
    rmSync(project, { recursive: true });
    expect(look(store)).toHaveLength(1);
  });

  test('is never what another user made', async () => {
    const { store, save } = lab();
    await save(a);
    const others = storedCache(store, map).map((layer): StoredCacheLayer => ({ ...layer, own: false }));
    expect(unusedCache(others, { machines: [] }, new Set(), true)).toEqual([]);
  });
});
