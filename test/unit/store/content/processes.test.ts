import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { descriptorOf, emptyStore, httpClient, never, RecordingTap } from '../../../support/content.ts';
import { fileServer, someBytes } from '../../../support/file-server.ts';
import { httpFile } from '../../../support/http-file.ts';
import { buildIngest, startIngest } from '../../../support/ingest-process.ts';

// These start many processes; how fast that is depends on what else the computer does.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

let folder: string;
let program: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tsv-ingest-'));
  program = await buildIngest(folder);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const MiB = 1024 * 1024;
const file = someBytes(5 * MiB);
const descriptor = descriptorOf(file);
const blob = `blobs/sha256/${descriptor.digest.slice(7)}`;

/** Why strace cannot be used here, or undefined. */
function whyNoStrace(): string | undefined {
  const probe = spawnSync('strace', ['-f', '-o', '/dev/null', 'true'], { encoding: 'utf8' });
  if (probe.error !== undefined) return `strace cannot be run: ${probe.error.message}`;
  return probe.status === 0 ? undefined : `strace does not work here: ${probe.stderr.trim()}`;
}

describe('two processes that want the same blob', () => {
  test('F25 get it with one download', async () => {
    const server = await fileServer(file);
    const { folder: images, files, store } = emptyStore();
    const both = [1, 2].map(() => startIngest(['node', program], images, server.url, descriptor));
    expect(await Promise.all(both.map(({ ended }) => ended))).toEqual(['done', 'done']);
    expect(server.requests).toHaveLength(1);
    expect(store.read(descriptor).equals(file)).toBe(true);
    expect(files()).toEqual([blob]);
  });

  test('F25 of which one is killed: the other shows its progress, goes on with what it had, and finishes', async () => {
    // The first one gets 3 MiB and then nothing more.
    const server = await fileServer(file, { holdAfter: (index) => (index === 0 ? 3 * MiB : undefined) });
    const { folder: images, files, store } = emptyStore();
    const first = startIngest(['node', program], images, server.url, descriptor);
    await first.reached(3 * MiB);
    const second = startIngest(['node', program], images, server.url, descriptor);
    await second.reached(2 * MiB);
    expect(server.requests).toHaveLength(1);
    first.child.kill('SIGKILL');
    expect(await second.ended).toBe('done');
    expect(store.read(descriptor).equals(file)).toBe(true);
    expect(files()).toEqual([blob]);
    const [, resumed, ...more] = server.requests;
    expect(more).toEqual([]);
    expect(resumed?.headers['if-range']).toBe('"1"');
    // What was not yet written is less than one batch.
    expect(resumed?.sent).toBeLessThanOrEqual(file.length - 2 * MiB);
  });
});

describe('a process that is killed', () => {
  test('F22 while it downloads leaves bytes that the next one goes on with, whenever that is', async () => {
    for (const at of [1, 70_000, MiB + 1, 2 * MiB + 500_000, 5 * MiB - 1]) {
      const server = await fileServer(file, { holdAfter: (index) => (index === 0 ? at : undefined) });
      const { folder: images, files, store } = emptyStore();
      const first = startIngest(['node', program], images, server.url, descriptor);
      await first.reached(at);
      first.child.kill('SIGKILL');
      await first.ended;
      expect(store.has(descriptor)).toBe(false);
      const tap = new RecordingTap();
      await store.ingest(descriptor, httpFile(server.url, httpClient()), { signal: never, progress: () => {}, tap });
      expect(tap.bytes.equals(file)).toBe(true);
      expect(tap.restarts).toBe(0);
      expect(server.requests).toHaveLength(2);
      // One batch may have been on its way to the disk, and the next one coming together.
      expect(server.requests[1]?.sent).toBeLessThan(file.length - at + 2 * MiB + 200_000);
      expect(files()).toEqual([blob]);
    }
  });

  // The first rename and unlinks are of the layout's two files.
  const points = [
    ...['pwritev:1', 'pwritev:2', 'pwritev:4', 'pwritev:5', 'rename:1', 'fchmod:1'],
    ...['unlink:3', 'unlink:4', 'flock:1', 'link:1', 'link:2', 'statfs:1', 'mkdir:2'],
  ];
  test.for(points)('at its system call %s leaves a store that the next one completes', async (point, context) => {
    const why = whyNoStrace();
    if (why !== undefined) return context.skip(why);
    const [call, when] = point.split(':');
    const server = await fileServer(file);
    const images = join(mkdtempSync(join(folder, 'killed-')), 'images');
    const inject = ['-f', '-o', '/dev/null', '-e', `inject=${call}:signal=KILL:when=${when}`];
    // One thread for all file work, so that strace counts the calls of one thread.
    const env = { ...process.env, UV_THREADPOOL_SIZE: '1' };
    const killed = startIngest(['strace', ...inject, 'node', program], images, server.url, descriptor, env);
    expect(await killed.ended).not.toBe('done');
    expect(killed.child.signalCode).toBe('SIGKILL');
    const next = startIngest(['node', program], images, server.url, descriptor);
    expect(await next.ended).toBe('done');
    expect(readFileSync(join(images, blob)).equals(file)).toBe(true);
    expect(JSON.parse(readFileSync(join(images, 'index.json'), 'utf8'))).toMatchObject({ manifests: [] });
  });
});
