import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { waitExit } from '../../../src/sys/children.ts';
import { fork, pipe, stdio } from '../../../src/sys/fork.ts';
import { type Keeper, keeperCode, keeperFds, underKeeper } from '../../../src/sys/keeper.ts';
import { keeperOf } from '../../../src/sys/keeper-of.ts';
import { readEnding } from '../../../src/sys/kept-files.ts';
import { assemble, hasAssembler } from '../../support/assemble.ts';

test.skipIf(!hasAssembler)('the keeper is what its source says (skipped where no assembler is installed)', () => {
  const source = join(import.meta.dirname, '..', '..', '..', 'src', 'sys', 'keeper.s');
  expect(assemble(source)).toBe(keeperCode.toString('hex'));
});

/**
 * A shell command with a keeper, in a folder of its own. `go` ends its standard input; `gone` is the keeper's end.
 */
function kept(command: string, { log = '', already = '' } = {}) {
  const dir = mkdtempSync(join(tmpdir(), 'tsv-keeper-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  writeFileSync(join(dir, 'console.log'), already);
  const file = (name: string) => openSync(join(dir, name), 'a', 0o600);
  const [input, output] = pipe();
  const [stdin, go] = pipe();
  const keeper: Keeper = {
    input,
    log: log === '' ? file('console.log') : openSync(log, 'a'),
    times: file('console.times'),
    exit: file('exit'),
    folder: openSync(dir, 'r'),
    label: 'tsv:test',
  };
  const child = fork({
    fds: { stdin, stdout: output, stderr: output, ...keeperFds(keeper) },
    steps: [
      ...underKeeper(keeper, { builder: false }),
      ...stdio(),
      { call: 'execve', args: ['/bin/sh', { strings: ['sh', '-c', command] }, { strings: ['PATH=/usr/bin:/bin'] }] },
    ],
  });
  const gone = waitExit(child.pid);
  for (const fd of [input, output, stdin, keeper.log, keeper.times, keeper.exit, keeper.folder]) closeSync(fd);
  const text = (name: string) => readFileSync(join(dir, name), 'latin1');
  return { dir, child, gone, text, go: () => closeSync(go) };
}

/** Offsets and times of `console.times`. */
const records = (bytes: Buffer): { offset: number; at: number }[] =>
  Array.from({ length: bytes.length / 16 }, (_, i) => ({
    offset: Number(bytes.readBigUInt64LE(i * 16)),
    at: Number(bytes.readBigUInt64LE(i * 16 + 8) / 1_000_000n),
  }));

describe('the keeper', () => {
  test('appends what is printed, and notes how it ended: an exit status', async () => {
    const { dir, gone, text } = kept('echo hello; echo world >&2; exit 3', { already: 'before\n' });
    expect(await gone).toEqual({ code: 0 });
    expect(text('console.log')).toBe('before\nhello\nworld\n');
    expect(readEnding(dir)).toMatchObject({ why: 'exited', code: 3 });
  });

  test('notes a signal', async () => {
    const { dir, gone } = kept('kill -SEGV $$');
    await gone;
    expect(readEnding(dir)).toMatchObject({ why: 'killed', signal: 'SEGV' });
  });

  test('is the parent of what it keeps, and not to be seen in its exit file while that runs', async () => {
    const { dir, child, gone, go } = kept('read _; exit 0');
    const pid = await child.reported('kept');
    await child.executed;
    expect(keeperOf(pid)?.pid).toBe(child.pid);
    expect(readEnding(dir)).toBeUndefined();
    go();
    await gone;
    expect(keeperOf(pid)).toBeUndefined();
  });

  test('an exit file of another size says nothing', async () => {
    const { dir, gone } = kept('exit 1');
    await gone;
    truncateSync(join(dir, 'exit'), 3);
    expect(readEnding(dir)).toBeUndefined();
  });

  test('notes when it came: each chunk with its place in the log', async () => {
    const before = Date.now();
    const { dir, gone, text } = kept('echo one; echo two');
    await gone;
    const after = Date.now();
    const times = records(readFileSync(join(dir, 'console.times')));
    expect(times.length).toBeGreaterThan(0);
    expect(times[0]?.offset).toBe(0);
    for (const { offset, at } of times) {
      expect(offset).toBeLessThan(text('console.log').length);
      expect(at).toBeGreaterThanOrEqual(before - 1);
      expect(at).toBeLessThanOrEqual(after);
    }
  });

  test('notes no more times than milliseconds, however small the pieces are', async () => {
    const { dir, gone, text } = kept(`exec perl -e '$| = 1; print "x" for 1 .. 20000'`);
    await gone;
    expect(text('console.log')).toBe('x'.repeat(20_000));
    const times = records(readFileSync(join(dir, 'console.times'))).map(({ at }) => at);
    // Of two within one millisecond of the clock, the second may lie in the next one.
    expect(times.length).toBeLessThanOrEqual((times.at(-1) ?? 0) - (times[0] ?? 0) + 1);
    expect(times.length).toBeLessThan(20_000);
  });

  test('reads on when it cannot write: who prints is not held up by a full disk', async () => {
    const { dir, gone } = kept('head -c 400000 /dev/zero; exit 4', { log: '/dev/full' });
    expect(await gone).toEqual({ code: 0 });
    expect(readEnding(dir)?.code).toBe(4);
  });

  test('puts a log of 16 MiB aside, with its times, and loses nothing of the last', async () => {
    const { dir, gone, text } = kept('yes 0123456789abcde | head -c 20000000; echo; echo last');
    await gone;
    expect(existsSync(join(dir, 'console.times.1'))).toBe(true);
    const [old, now] = [text('console.log.1'), text('console.log')];
    expect(old.length).toBeLessThanOrEqual(16 * 2 ** 20);
    expect(old.length).toBeGreaterThan(16 * 2 ** 20 - 65536);
    expect(old.length + now.length).toBe(20_000_000 + '\nlast\n'.length);
    expect(`${old}${now}`.endsWith('\nlast\n')).toBe(true);
    const times = records(readFileSync(join(dir, 'console.times')));
    expect(times[0]?.offset).toBe(0);
    expect(times.at(-1)?.offset).toBeLessThan(now.length);
  });
});
