import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { build } from 'esbuild';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { layerFolder } from '../../src/store/layer/index.ts';
import { isAlive, processRef } from '../../src/sys/process.ts';
import { asOwner, map, sha256, TestStore, unpackProgram } from '../support/layers.ts';
import { rawTar } from '../support/tar.ts';
import { until } from '../support/until.ts';

const root = resolve(import.meta.dirname, '../..');
let store: TestStore;
let work: string;

beforeEach(() => {
  store = new TestStore();
  work = mkdtempSync(join(tmpdir(), 'tsv-layer-work-'));
});

afterEach(async () => {
  await store.remove();
  await asOwner(['rm', '-rf', '--', work]);
});

describe('processes that unpack', () => {
  const archive = rawTar({ path: 'a', content: Buffer.alloc(200_000, 'a') }, { path: 'b' });
  const diffId = sha256(archive);

  test('do not make the same layer twice: the second waits, and finds it made', async () => {
    const [one, two] = [await store.open(), await store.open()];
    try {
      const sink = await one.layer({ diffId, compression: 'none' });
      await sink?.write(archive.subarray(0, 1000));
      const second = two.layer({ diffId, compression: 'none' });
      await until('the second waits', waitsForLock);
      await sink?.write(archive.subarray(1000));
      await sink?.finish();
      expect(await second).toBeUndefined();
      expect(await two.layer({ diffId, compression: 'none' })).toBeUndefined();
      expect(store.left).toEqual([diffId.slice(7)]);
    } finally {
      await Promise.all([one.close(), two.close()]);
    }
  });

  test('make it after the first has given it up', async () => {
    const unpacker = await store.open();
    try {
      const sink = await unpacker.layer({ diffId, compression: 'none' });
      await sink?.write(archive.subarray(0, 1000));
      const second = unpacker.layer({ diffId, compression: 'none' });
      await until('the second waits', waitsForLock);
      await sink?.abandon();
      const next = await second;
      await next?.write(archive);
      expect(await next?.finish()).toMatchObject({ entries: 2 });
    } finally {
      await unpacker.close();
    }
  });

  test('make more layers at once than there are processes', async () => {
    const unpacker = await store.open();
    const archives = Array.from({ length: 9 }, (_, i) => rawTar({ path: `f${i}`, content: 'x'.repeat(i * 1000) }));
    try {
      await Promise.all(
        archives.map(async (own) => {
          const sink = await unpacker.layer({ diffId: sha256(own), compression: 'none' });
          await sink?.write(own);
          await sink?.finish();
        }),
      );
      expect(store.left).toEqual(archives.map((own) => sha256(own).slice(7)).sort());
    } finally {
      await unpacker.close();
    }
  });

  test('leave nothing when they are interrupted or closed', async () => {
    const interrupt = new AbortController();
    const unpacker = await store.open(interrupt.signal);
    const sink = await unpacker.layer({ diffId, compression: 'none' });
    await sink?.write(archive.subarray(0, 100_000));
    const waiting = unpacker.layer({ diffId, compression: 'none' });
    await until('it waits', waitsForLock);
    interrupt.abort();
    await expect(waiting).rejects.toMatchObject({ code: 'TSV_CANCELLED' });
    await expect(sink?.write(archive)).rejects.toMatchObject({ code: 'TSV_CANCELLED' });
    await expect(unpacker.layer({ diffId, compression: 'none' })).rejects.toMatchObject({ code: 'TSV_CANCELLED' });
    await unpacker.close();
    expect(store.left).toEqual([]);
  });

  test('have few rights, and killed in the middle leave nothing under a final name; the next one cleans up', async () => {
    const unpacker = await store.open();
    const sink = await unpacker.layer({ diffId, compression: 'none' });
    await sink?.write(archive.subarray(0, 100_000));
    const pid = await until('the process is there', () => unpackerPids(process.pid)[0]);
    // chown, dac_override, fowner, fsetid, setfcap: all that a hostile archive could gain.
    const rights = readFileSync(`/proc/${pid}/status`, 'utf8');
    expect(rights).toMatch(/^CapPrm:\t000000008000001b\nCapEff:\t000000008000001b\nCapBnd:\t000000008000001b$/m);
    expect(rights).toMatch(/^NoNewPrivs:\t1$/m);
    process.kill(pid, 'SIGKILL');
    await expect(sink?.write(archive).then(() => sink.finish())).rejects.toMatchObject({
      code: 'TSV_STORE',
      details: expect.arrayContaining(['SIGKILL']),
    });
    await unpacker.close();
    expect(store.left.some((name) => name.startsWith('.new.'))).toBe(true);
    expect(layerFolder(store.store, map, diffId)).toBeUndefined();
    await store.unpack(archive);
    expect(store.left).toEqual([diffId.slice(7)]);
  });

  test('end with the command that started them, even when it is killed', async () => {
    const driver = join(work, 'driver.cjs');
    await build({
      stdin: { contents: commandThatHangs, resolveDir: join(root, 'src/store/layer'), loader: 'ts' },
      ...{ bundle: true, platform: 'node', format: 'cjs', external: ['koffi'], outfile: driver, logLevel: 'error' },
    });
    const half = join(work, 'half');
    writeFileSync(half, archive.subarray(0, 100_000));
    const options = JSON.stringify({ map, folder: store.folder, program: unpackProgram, diffId, half });
    const command = spawn(process.execPath, [driver, options], {
      env: { ...process.env, NODE_PATH: join(root, 'node_modules') },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(command.stdout, 'data');
    const unpacker = processRef(unpackerPids(command.pid ?? 0)[0] ?? 0);
    expect(isAlive(unpacker)).toBe(true);
    command.kill('SIGKILL');
    await until('the process has ended', () => !isAlive(unpacker));
    expect(layerFolder(store.store, map, diffId)).toBeUndefined();
    await store.unpack(archive);
    expect(store.left).toEqual([diffId.slice(7)]);
  });

  test('take a folder without its note for one that is not complete', async () => {
    const { fs } = await store.unpack(archive);
    renameSync(join(fs, '../layer.json'), join(work, 'note'));
    expect(layerFolder(store.store, map, diffId)).toBeUndefined();
    expect((await store.unpack(archive)).entries).toBe(2);
  });
});

/** Gives half of a layer, says so, and waits for ever. */
const commandThatHangs = `
import { readFileSync } from 'node:fs';
import { Unpacker } from './index.ts';
const { diffId, half, ...options } = JSON.parse(process.argv[2]);
const signal = new AbortController().signal;
const hang = async () => {
  const sink = await (await Unpacker.open({ ...options, signal })).layer({ diffId, compression: 'none' });
  await sink.write(readFileSync(half));
  console.log('half');
  setInterval(() => {}, 1 << 30);
};
void hang();
`;

/** Processes of unpack.js below a process. */
function unpackerPids(parent: number): number[] {
  const children = readFileSync(`/proc/${parent}/task/${parent}/children`, 'utf8').trim().split(' ').filter(Boolean);
  return children.map(Number).filter((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('unpack.js'));
}

/** Whether one of this process's own waits for a lock, proc(5), /proc/locks. */
function waitsForLock(): boolean {
  const waiting = /^\d+: -> FLOCK +ADVISORY +WRITE (\d+) /gm;
  const pids = [...readFileSync('/proc/locks', 'utf8').matchAll(waiting)].map(([, pid]) => Number(pid));
  return unpackerPids(process.pid).some((pid) => pids.includes(pid));
}
