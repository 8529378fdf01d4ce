import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import {
  beginLog,
  boundForeignLog,
  connectConsole,
  lastLogLines,
  lastPanic,
  openBoundedLog,
  plainLines,
} from '../../../providers/kvm/console.ts';
import { consoleNames, RotatedLog } from '../../../src/sys/rotated-log.ts';

let dir: string;
let log: string;

/** `MILLISECONDS TEXT` for each chunk of a machine's log. */
function chunksOf(folder: string): string[] {
  const read = RotatedLog.open(folder, consoleNames);
  const found: string[] = [];
  for (let at = read.begin; at < read.end; ) {
    const { timeNs, end } = read.chunkAt(at);
    const text = Buffer.alloc(end - at);
    at += read.read(text, at);
    found.push(`${timeNs === undefined ? '-' : timeNs / 1_000_000n} ${text}`);
  }
  read.close();
  return found;
}

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tsv-console-'));
  log = join(dir, 'console.log');
});

afterEach(() => rmSync(dir, { recursive: true }));

describe('the console log', () => {
  test('S42 takes at most twice its bound on disk, whatever is written, and keeps the end', () => {
    const bound = 1 << 20;
    const writer = openBoundedLog(log, bound);
    for (let n = 0; n < 10_240; n++) writer.append(Buffer.from(`${String(n).padStart(1022, '.')}\r\n`));
    writer.close();
    expect(statSync(log).size).toBeLessThanOrEqual(bound);
    expect(statSync(`${log}.1`).size).toBeLessThanOrEqual(bound);
    expect(lastLogLines(log, 1)[0]).toMatch(/\.10239$/);
    const both = readFileSync(`${log}.1`, 'latin1') + readFileSync(log, 'latin1');
    expect(both.length).toBeGreaterThan(bound);
  });

  test('stays within the bound for a single piece that is larger than it', () => {
    const writer = openBoundedLog(log, 1000);
    writer.append(Buffer.alloc(12_345, 'x'));
    writer.close();
    expect([statSync(log).size, statSync(`${log}.1`).size]).toEqual([345, 1000]);
  });

  test('goes on where an earlier agent stopped, and is readable by its owner only', () => {
    for (const text of ['one\n', 'two\n']) {
      const writer = openBoundedLog(log);
      writer.append(Buffer.from(text));
      writer.close();
    }
    expect(readFileSync(log, 'utf8')).toBe('one\ntwo\n');
    expect(statSync(log).mode & 0o777).toBe(0o600);
  });

  test("S42 of QEMU's own words, which QEMU appends to, is emptied when it grows too large", async () => {
    writeFileSync(log, 'x'.repeat(2000));
    boundForeignLog(log, 1000)();
    expect(statSync(log).size).toBe(0);
    const end = boundForeignLog(log, 1000);
    writeFileSync(log, 'y'.repeat(2000), { flag: 'a' });
    await vi.waitFor(() => expect(statSync(log).size).toBe(0));
    end();
  });

  test('has the time at which each line began, also after it was rotated', () => {
    let ms = 1000;
    const writer = openBoundedLog(log, 64, () => ms);
    const print = (text: string, at: number) => {
      ms = at;
      writer.append(Buffer.from(text));
    };
    print('one\r\n', 1000);
    print('tw', 1001);
    print('o', 1002); // in the middle of a line
    print('\r\nthree\r\n', 1003);
    print('four\r\n', 1003); // within the same millisecond
    expect(chunksOf(dir)).toEqual(['1000 one\r\n', '1001 two\r\n', '1003 three\r\nfour\r\n']);
    print('five\r\n', 1004);
    writer.close();
    const second = openBoundedLog(log, 64, () => 1005);
    second.append(Buffer.from('six\r\n'));
    second.close();
    expect(chunksOf(dir).slice(2)).toEqual(['1003 three\r\nfour\r\n', '1004 five\r\n', '1005 six\r\n']);
    expect(statSync(join(dir, 'console.times')).mode & 0o777).toBe(0o600);
  });

  test('S42 bounds its times as well: a guest that prints line breaks only fills no disk', () => {
    let ms = 0;
    const writer = openBoundedLog(log, 1600, () => ms++);
    for (let n = 0; n < 1000; n++) writer.append(Buffer.from('\n'));
    writer.close();
    for (const name of ['console.times', 'console.times.1']) expect(statSync(join(dir, name)).size).toBeLessThan(1601);
  });

  test('of an older version has no times, and gets none of those before it', () => {
    writeFileSync(log, 'old\n');
    beginLog(log);
    const writer = openBoundedLog(log, 1000, () => 7);
    writer.append(Buffer.from('new\n'));
    writer.close();
    expect(chunksOf(dir)).toEqual(['- old\n', '7 new\n']);
    rmSync(join(dir, 'console.times'));
    writeFileSync(join(dir, 'console.times.1'), 'stale');
    beginLog(log);
    expect(chunksOf(dir)).toEqual(['- new\n']);
  });

  test('S52 is not written through a symbolic link', () => {
    writeFileSync(join(dir, 'victim'), '');
    symlinkSync(join(dir, 'victim'), log);
    expect(() => openBoundedLog(log)).toThrow(/ELOOP/);
  });

  test('of the start before is put aside when a machine starts again', () => {
    beginLog(log);
    writeFileSync(log, 'first start');
    beginLog(log);
    expect(readFileSync(`${log}.1`, 'utf8')).toBe('first start');
    expect(lastLogLines(log, 5)).toEqual([]);
  });
});

describe('lines for a terminal', () => {
  test('hold no escape sequences or control characters', () => {
    const text =
      '\x1b[0;32m  OK  \x1b[0m Started\r\n\x1b]0;title\x07shown\x1b[2J\x1bc\n\x1b]52;c;ZXZpbA==\x1b\\after\x08\x9b31m\n\n';
    expect(plainLines(text, 10)).toEqual(['  OK   Started', 'shown', 'after31m']);
  });

  test('are the last ones', () => {
    expect(plainLines('1\n2\n3\n', 2)).toEqual(['2', '3']);
    expect(plainLines('1\n2\n3\n', 0)).toEqual([]);
  });
});

describe("a running machine's console", () => {
  let server: Server;
  let guest: Promise<Socket>;

  beforeEach(async () => {
    server = createServer();
    guest = once(server, 'connection').then(([socket]) => socket as Socket);
    server.listen(join(dir, 'console.sock'));
    await once(server, 'listening');
  });

  afterEach(() => void server.close());

  test('is logged, followed, and its end is at hand', async () => {
    const console = await connectConsole(join(dir, 'console.sock'), log);
    const seen: Buffer[] = [];
    const followed = new Promise<void>((resolve) => {
      console.follow((data) => {
        seen.push(data);
        if (Buffer.concat(seen).toString().endsWith('end\r\n')) resolve();
      });
    });
    const socket = await guest;
    socket.write('Linux version 6\r\n');
    await console.printed;
    socket.write(Buffer.from('grün\r\nend\r\n'));
    await followed;
    expect(Buffer.concat(seen).toString()).toBe('Linux version 6\r\ngrün\r\nend\r\n');
    expect(readFileSync(log, 'utf8')).toBe('Linux version 6\r\ngrün\r\nend\r\n');
    expect(console.lastLines(2)).toEqual(['grün', 'end']);
    socket.destroy();
    await console.closed;
  });

  test('F19 tells a panic, also when its line comes in two pieces, until the system goes on', async () => {
    const console = await connectConsole(join(dir, 'console.sock'), log);
    const socket = await guest;
    const printed = async (text: string) => {
      const seen = new Promise<void>((resolve) => {
        const end = console.follow(() => {
          if (!readFileSync(log, 'utf8').endsWith(text)) return;
          end();
          resolve();
        });
      });
      socket.write(text);
      await seen;
    };
    await printed('[    1.2] Kernel pa');
    expect(console.panic()).toBeUndefined();
    await printed('nic - not syncing: VFS: Unable to mount root fs\r\n[    1.3] CPU: 0');
    expect(console.panic()).toBe('VFS: Unable to mount root fs');
    await printed(`Kernel panic - not syncing: \x1b[2Jred\x07${'x'.repeat(1000)}\r\n`);
    expect(console.panic()).toBe(`red${'x'.repeat(197)}`);
    await printed('[    0.0] Linux version 6.1.0\r\n');
    expect(console.panic()).toBeUndefined();
    console.close();
    await console.closed;
    expect(lastPanic(log)).toBeUndefined();
  });

  test('knows what an earlier agent logged', async () => {
    writeFileSync(log, 'booting\nKernel panic - not syncing: before\n');
    const console = await connectConsole(join(dir, 'console.sock'), log);
    await console.printed;
    expect(console.panic()).toBe('before');
    expect(lastPanic(log)).toBe('before');
    expect(console.lastLines(2)[0]).toBe('booting');
    console.close();
    await console.closed;
  });
});
