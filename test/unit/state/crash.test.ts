import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { readState, StateStore } from '../../../src/state/store.ts';
import { buildWriter } from './build-writer.ts';

// These start many processes; how fast that is depends on what else the computer does.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

let folder: string;
let writer: string;
let projects = 0;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tsv-crash-'));
  writer = await buildWriter(folder);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const newProject = (): string => {
  const dir = join(folder, `project-${++projects}`);
  mkdirSync(dir);
  return dir;
};

/** Why strace cannot be used here, or undefined. */
function whyNoStrace(): string | undefined {
  const probe = spawnSync('strace', ['-f', '-o', '/dev/null', 'true'], { encoding: 'utf8' });
  if (probe.error !== undefined) return `strace cannot be run: ${probe.error.message}`;
  return probe.status === 0 ? undefined : `strace does not work here: ${probe.stderr.trim()}`;
}

/** One thread for all file work, so that strace counts the calls of one thread. */
const env = { ...process.env, UV_THREADPOOL_SIZE: '1' };

describe('a writer that is killed', () => {
  test('at any moment leaves a whole state that is no older than what it reported', async () => {
    for (const lines of [1, 2, 3, 5, 8, 13]) {
      const dir = newProject();
      const child = spawn('node', [writer, dir, '100000'], { stdio: ['ignore', 'pipe', 'inherit'] });
      let output = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        output += text;
        if (output.split('\n').length > lines) child.kill('SIGKILL');
      });
      await new Promise((resolve) => child.once('close', resolve));
      const reported = Number(output.trimEnd().split('\n').at(-1));
      const serial = readState(dir)?.serial ?? 0;
      expect(serial).toBeGreaterThanOrEqual(reported);
      expect(StateStore.open(dir).current.serial).toBe(serial);
      expect(readdirSync(join(dir, '.ts-vm'))).toEqual(['state.json']);
    }
  });

  const points = ['write:1', 'fsync:1', 'rename:1', 'fsync:2', 'write:2', 'fsync:3', 'rename:2', 'fsync:4'];
  test.for(points)('at its system call %s leaves the old or the new state', (point, ctx) => {
    const why = whyNoStrace();
    if (why !== undefined) return ctx.skip(why);
    const [call, when] = point.split(':');
    const dir = newProject();
    expect(spawnSync('node', [writer, dir, '1']).status).toBe(0);
    const inject = `inject=${call}:signal=KILL:when=${when}`;
    const script = ['-f', '-o', '/dev/null', '-e', inject, 'node', writer, dir, '2'];
    const result = spawnSync('strace', script, { env, encoding: 'utf8' });
    expect(result.signal ?? `exit ${result.status}`).toBe('SIGKILL');
    // Before the rename there is a new file that will never be finished.
    if (point === 'fsync:1' || point === 'rename:1') expect(readdirSync(join(dir, '.ts-vm'))).toHaveLength(2);
    const reported = Math.max(1, ...result.stdout.split('\n').map(Number));
    const serial = readState(dir)?.serial ?? 0;
    expect(serial).toBeGreaterThanOrEqual(reported);
    expect(serial).toBeLessThanOrEqual(reported + 1);
    expect(StateStore.open(dir).current.serial).toBe(serial);
    expect(readdirSync(join(dir, '.ts-vm'))).toEqual(['state.json']);
  });
});

describe('the order of a write', () => {
  test('is: new file, its text, fsync, rename over the old one, fsync of the folder', (ctx) => {
    const why = whyNoStrace();
    if (why !== undefined) return ctx.skip(why);
    const dir = newProject();
    const log = join(folder, 'strace.log');
    expect(spawnSync('node', [writer, dir, '1']).status).toBe(0);
    const calls = 'openat,write,pwrite64,fsync,fdatasync,rename,renameat,renameat2';
    const script = ['-f', '-y', '-s', '16', '-o', log, '-e', `trace=${calls}`, 'node', writer, dir, '1'];
    expect(spawnSync('strace', script, { env }).status).toBe(0);
    const order = readFileSync(log, 'utf8')
      .split('\n')
      .filter((line) => line.includes('.ts-vm') || line.includes('/proc/self/fd/'))
      .map((line) => {
        const call = /^\d+ +(\w+)\(/.exec(line)?.[1] ?? '';
        if (call === 'openat') return /O_CREAT\|O_EXCL/.test(line) && line.includes('0600') ? 'create' : 'open';
        if (call === 'fsync') return line.includes('.tmp>') ? 'fsync file' : 'fsync folder';
        return call;
      })
      .filter((call) => call !== 'open');
    expect(order).toEqual(['create', 'write', 'fsync file', 'rename', 'fsync folder']);
  });
});
