import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { withLock } from '../../../src/store/box/lock.ts';

let dir: string;
let file: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tsv-lock-'));
  file = join(dir, 'lock');
});
afterEach(() => rmSync(dir, { recursive: true }));

const never = new AbortController().signal;
const ignore = () => {};

describe('the lock of a build', () => {
  it('lets one work at a time, tells the other that it waits, and gives back what the work gave', async () => {
    const order: string[] = [];
    let finish = ignore;
    const held = new Promise<void>((resolve) => {
      finish = resolve;
    });
    let started = ignore;
    const holding = new Promise<void>((resolve) => {
      started = resolve;
    });
    const first = withLock(file, never, ignore, async () => {
      started();
      await held;
      order.push('first');
      return 1;
    });
    await holding;
    const second = withLock(
      file,
      never,
      () => {
        order.push('waiting');
        finish();
      },
      async () => order.push('second'),
    );
    expect(await first).toBe(1);
    await second;
    expect(order).toEqual(['waiting', 'first', 'second']);
  });

  it('is free again after work that failed', async () => {
    await expect(withLock(file, never, ignore, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(await withLock(file, never, ignore, async () => 'free')).toBe('free');
  });

  it('is free again after its holder was killed', async () => {
    // withLock's own child at the end of a pipe whose other end is then killed, as a process that holds the lock may be.
    const pipeline = `sh -c 'echo $$ > "$0.pid"; exec sleep 1000' "$1" | flock "$1" sh -c 'echo; read -r _; :'`;
    const child = spawn('sh', ['-c', pipeline, 'sh', file], { stdio: ['ignore', 'pipe', 'ignore'] });
    await once(child.stdout, 'data');
    const waits: true[] = [];
    const killHolder = () => {
      waits.push(true);
      process.kill(Number(readFileSync(`${file}.pid`, 'utf8')), 'SIGKILL');
    };
    const mine = withLock(file, never, killHolder, async () => 'mine');
    expect(await mine).toBe('mine');
    expect(waits).toEqual([true]);
  });

  it('is not waited for any longer after an abort', async () => {
    const controller = new AbortController();
    const inner = withLock(file, never, ignore, async () => {
      await expect(
        withLock(
          file,
          controller.signal,
          () => controller.abort(),
          async () => 'never',
        ),
      ).rejects.toMatchObject({ code: 'TSV_CANCELLED', exitCode: 130 });
      return 'kept';
    });
    expect(await inner).toBe('kept');
    expect(
      await withLock(
        file,
        never,
        () => expect.unreachable('still locked'),
        async () => 'free',
      ),
    ).toBe('free');
  });
});
