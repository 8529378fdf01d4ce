import { mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Times, timesRecord } from '../../../src/sys/console-times.ts';
import { lastLines, startOfLastLines } from '../../../src/sys/last-lines.ts';
import { consoleNames, RotatedLog } from '../../../src/sys/rotated-log.ts';
import { ConsoleFiles } from '../../support/console-files.ts';

let dir: string;
let files: ConsoleFiles;
let log: RotatedLog | undefined;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tsv-log-'));
  files = new ConsoleFiles(join(dir, 'web'));
});
afterEach(() => {
  log?.close();
  log = undefined;
  rmSync(dir, { recursive: true });
});

const open = (): RotatedLog => {
  log = RotatedLog.open(files.dir, consoleNames);
  return log;
};

/** All chunks from `offset` on: `TIME TEXT`. */
function chunks(from: RotatedLog, offset = from.begin): string[] {
  const found: string[] = [];
  for (let at = offset; at < from.end; ) {
    const { timeNs, end } = from.chunkAt(at);
    const data = Buffer.alloc(end - at);
    const count = from.read(data, at);
    found.push(`${timeNs ?? '-'} ${data.toString('utf8', 0, count)}`);
    at += count;
  }
  return found;
}

const times = (...records: [offset: number, ns: number][]): Times => {
  const bytes = Buffer.concat(records.map(([offset, ns]) => timesRecord(offset, BigInt(ns))));
  const index = new Times((into, offset) => bytes.copy(into, 0, offset));
  index.resize(bytes.length + 5); // half a record is none
  return index;
};

describe('the times of an output', () => {
  test('say for each byte in which chunk it came, wherever one asks', () => {
    const index = times([0, 5], [10, 6], [30, 9]);
    expect([0, 9, 10, 29, 30, 1e9, 3].map((offset) => index.chunkOf(offset))).toEqual([0, 0, 1, 1, 2, 2, 0]);
    expect(index.timeNs(1)).toBe(6n);
    expect(times([4, 5]).chunkOf(3)).toBe(-1);
    expect(times().chunkOf(0)).toBe(-1);
  });

  test('count as the last record says where two are for one offset: the first one is of a write that failed', () => {
    const index = times([0, 5], [10, 6], [10, 8], [20, 9]);
    expect(index.timeNs(index.chunkOf(10))).toBe(8n);
    expect(index.timeNs(index.chunkOf(25))).toBe(9n);
    expect(index.timeNs(index.chunkOf(15))).toBe(8n);
  });

  test('hold offsets beyond four gigabytes and times to the nanosecond, over many pages', () => {
    const many = 10_000;
    const base = 2 ** 33;
    const bytes = Buffer.concat(
      Array.from({ length: many }, (_, i) => timesRecord(base + 7 * i, 1767268865123456789n + BigInt(i))),
    );
    const index = new Times((into, offset) => bytes.copy(into, 0, offset));
    index.resize(bytes.length);
    for (const i of [0, 4095, 4096, 9999, 1]) {
      expect(index.chunkOf(base + 7 * i + 6)).toBe(i);
      expect(index.timeNs(i)).toBe(1767268865123456789n + BigInt(i));
    }
  });

  test('are searched one by one: a clock may have been set back', () => {
    const index = times([0, 50], [1, 60], [2, 20], [3, 30], [4, 70]);
    expect(index.firstSince(55n)).toBe(1);
    expect(index.lastUntil(30n)).toBe(3);
    expect(index.firstSince(80n)).toBeUndefined();
    expect(index.lastUntil(10n)).toBeUndefined();
  });
});

describe('an output over two files', () => {
  test('is read as one, each chunk with its time', () => {
    files.print('one\n', 1).print('two\n', 2).rotate().print('three\n', 3).print('four\n', 4);
    expect(chunks(open())).toEqual(['1 one\n', '2 two\n', '3 three\n', '4 four\n']);
    expect(log?.firstSince(3n)).toBe(8);
    expect(log?.lastUntil(2n)).toBe(8);
    expect(log?.lastUntil(0n)).toBe(0);
    expect(log?.firstSince(9n)).toBe(log?.end);
  });

  test('that is not there is empty, and may come later', () => {
    rmSync(files.dir, { recursive: true });
    const opened = open();
    expect([opened.begin, opened.end, opened.read(Buffer.alloc(1), 0)]).toEqual([0, 0, 0]);
    new ConsoleFiles(files.dir).print('late\n', 7);
    opened.refresh();
    expect(chunks(opened)).toEqual(['7 late\n']);
  });

  test('has no times where an older version wrote it, before or between what has', () => {
    files.print('old\n').rotate().print('older start\n').print('new\n', 5);
    const opened = open();
    expect(chunks(opened)).toEqual(['- old\n', '- older start\n', '5 new\n']);
    expect([opened.lacksTimes(0), opened.lacksTimes(4), opened.lacksTimes(16)]).toEqual([true, true, false]);
    expect(opened.lastUntil(1n)).toBe(16);
    expect(opened.firstSince(1n)).toBe(16);
  });

  test('has its own times also while only the log was renamed yet', () => {
    files.print('a\n', 1).rotate().print('b\n', 2).print('c\n', 3).rotate({ halfway: true });
    expect(chunks(open())).toEqual(['2 b\n', '3 c\n']);
    log?.close();
    writeFileSync(join(files.dir, 'console.log'), '');
    expect(chunks(open())).toEqual(['2 b\n', '3 c\n']);
  });

  test('keeps its own times while the first chunk of the next file has its time already, and is not there yet', () => {
    files.print('a\n', 1).print('b\n', 2).rotate().print('');
    writeFileSync(join(files.dir, 'console.times'), timesRecord(0, 9n));
    const opened = open();
    expect(chunks(opened)).toEqual(['1 a\n', '2 b\n']);
    files.print('c\n', 10);
    opened.refresh();
    expect(chunks(opened)).toEqual(['1 a\n', '2 b\n', '10 c\n']);
  });

  test('is fixed until one looks again; then nothing is lost or doubled, however it was rotated', () => {
    const opened = open();
    let at = 0;
    const seen: string[] = [];
    const look = () => {
      opened.refresh();
      seen.push(...chunks(opened, at));
      at = opened.end;
      opened.forget(at);
    };
    files.print('0\n', 10);
    look();
    files.print('1\n', 11);
    expect(opened.end).toBe(2);
    look();
    files.print('2\n', 12).rotate();
    look();
    look();
    files.print('3\n', 13);
    look();
    files.print('4\n', 14).rotate().print('5\n', 15).rotate().print('6\n', 16);
    look();
    for (let n = 7; n < 40; n++) {
      files.rotate().print(`${n}\n`, 10 + n);
      look();
    }
    expect(seen).toEqual(Array.from({ length: 40 }, (_, n) => `${10 + n} ${n}\n`));
    const links = readdirSync('/proc/self/fd').map((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`);
      } catch {
        return '';
      }
    });
    expect(links.filter((path) => path.startsWith(files.dir)).length).toBeLessThanOrEqual(2);
  });

  test('goes on when its machine was made anew, and what the old one printed last is not lost', () => {
    files.print('old\n', 1);
    const opened = open();
    files.print('last\n', 2);
    rmSync(files.dir, { recursive: true });
    new ConsoleFiles(files.dir).print('new\n', 3);
    opened.refresh();
    expect(chunks(opened)).toEqual(['1 old\n', '2 last\n', '3 new\n']);
  });

  test('finds the times of a file that was empty when it was opened', () => {
    files.print('');
    const opened = open();
    files.print('first\n', 4);
    opened.refresh();
    files.print('second\n', 5);
    opened.refresh();
    expect(chunks(opened)).toEqual(['4 first\n', '5 second\n']);
  });
});

test('an output that was read and forgotten does not come again when the file after it gets its times', () => {
  files.print('old\n', 1).rotate().print('');
  const opened = open();
  expect(chunks(opened)).toEqual(['1 old\n']);
  opened.forget(opened.end);
  files.print('new\n', 2);
  opened.refresh();
  expect(chunks(opened)).toEqual(['2 new\n']);
});

describe('the last lines', () => {
  const start = (count: number) => startOfLastLines(open(), log?.begin ?? 0, log?.end ?? 0, count);

  test('are found from the end, with or without a line break there', () => {
    files.print('one\ntwo\nthree\n', 1);
    expect([0, 1, 2, 3, 4].map(start)).toEqual([14, 8, 4, 0, 0]);
    files.print('four');
    expect([1, 2].map(start)).toEqual([14, 8]);
  });

  test('may be empty', () => {
    files.print('one\n\n\n', 1);
    expect([1, 2, 3].map(start)).toEqual([5, 4, 0]);
    rmSync(join(files.dir, 'console.log'));
    files.print('\n', 1);
    expect(start(1)).toBe(0);
  });

  test('are found over borders of blocks and files', () => {
    const long = `${'x'.repeat(100_000)}\n`;
    files.print(`a\n${long}`, 1).rotate().print(`b\n${long}end`, 1);
    expect([1, 2, 3, 4, 5].map(start)).toEqual([200_006, 100_005, 100_003, 2, 0]);
    expect(startOfLastLines(open(), 100_004, 200_006, 9)).toBe(100_004);
  });

  test('of a machine are at most so many lines of so many bytes', () => {
    expect(lastLines(files.dir, { lines: 2, bytes: 100 })).toEqual([]);
    files.print('one\ntwo\n', 1).rotate().print('three\n\n', 1);
    expect(lastLines(files.dir, { lines: 2, bytes: 100 })).toEqual(['two', 'three']);
    expect(lastLines(files.dir, { lines: 9, bytes: 9 })).toEqual(['o', 'three']);
  });
});
