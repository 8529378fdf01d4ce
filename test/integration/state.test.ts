import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { parseState } from '../../src/state/store.ts';
import { buildWriter } from '../unit/state/build-writer.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

let folder: string;
let writer: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tsv-full-'));
  writer = await buildWriter(folder);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Runs a shell script as root of a user namespace with mounts of its own, which end with it. */
function inMountNamespace(script: string) {
  return spawnSync('unshare', ['--user', '--map-root-user', '--mount', 'sh', '-euc', script], { encoding: 'utf8' });
}

const whyNot = (): string | undefined => {
  const probe = inMountNamespace('mount -t tmpfs tmpfs /mnt');
  return probe.status === 0 ? undefined : `no user namespace with mounts here: ${probe.error?.message ?? probe.stderr}`;
};

describe('a disk that cannot be written', () => {
  test('because it is full: one error names the file and the free space, the state is whole, and it goes on once there is room', (ctx) => {
    const why = whyNot();
    if (why !== undefined) return ctx.skip(why);
    const { status, stdout, stderr } = inMountNamespace(`
      mount -t tmpfs -o size=64k tmpfs /mnt
      node ${writer} /mnt 1 >/dev/null
      dd if=/dev/zero of=/mnt/ballast bs=4k 2>/dev/null || true
      node ${writer} /mnt 1 || true
      ls -A /mnt/.ts-vm
      cat /mnt/.ts-vm/state.json
      rm /mnt/ballast
      node ${writer} /mnt 1
    `);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const [error = '', listing, ...rest] = stdout.trimEnd().split('\n');
    expect(JSON.parse(error)).toEqual({
      code: 'TSV_STATE_WRITE',
      message: expect.stringContaining('/mnt/.ts-vm/state.json could not be written: ENOSPC'),
      details: ['free space on the file system of /mnt: 0 KiB', 'the state before this change is intact'],
      hint: 'make room (df -h /mnt), then run the command again',
      exitCode: 1,
    });
    expect(listing).toBe('state.json');
    expect(rest.pop()).toBe('2');
    expect(parseState(rest.join('\n'), 'state.json').serial).toBe(1);
  });

  test('because it is read-only: an error of the same kind, and the state is whole', (ctx) => {
    const why = whyNot();
    if (why !== undefined) return ctx.skip(why);
    const { status, stdout } = inMountNamespace(`
      mount -t tmpfs tmpfs /mnt
      node ${writer} /mnt 1 >/dev/null
      mount -o remount,bind,ro /mnt
      node ${writer} /mnt 1 || true
      grep -c '"serial": 1' /mnt/.ts-vm/state.json
    `);
    expect(status).toBe(0);
    const [error = '', intact] = stdout.trimEnd().split('\n');
    expect(JSON.parse(error)).toMatchObject({ code: 'TSV_STATE_WRITE', message: expect.stringContaining('EROFS') });
    expect(intact).toBe('1');
  });
});
