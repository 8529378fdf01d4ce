import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LogSource, MergedLogs, type Wanted } from '../../../src/app/log-source.ts';
import { consoleNames, RotatedLog } from '../../../src/sys/rotated-log.ts';
import { ConsoleFiles } from '../../support/console-files.ts';
import { random, seeds } from '../plan/random.ts';

let dir: string;
const opened: LogSource[] = [];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tsv-source-'));
});
afterEach(() => {
  for (const source of opened.splice(0)) source.close();
  rmSync(dir, { recursive: true });
});

const machine = (name: string) => new ConsoleFiles(join(dir, name));
const open = (name: string, wanted: Wanted = {}, raw = false): LogSource => {
  const source = new LogSource(RotatedLog.open(join(dir, name), consoleNames), wanted, { raw });
  opened.push(source);
  return source;
};

/** What is there now: `TIME TEXT`, with `+` before the rest of a line. */
function pieces(source: LogSource): string[] {
  const found: string[] = [];
  for (let piece = source.peek(); piece !== undefined; piece = source.peek()) {
    found.push(`${piece.begins ? '' : '+'}${piece.timeNs ?? '-'} ${piece.data}`);
    source.take();
  }
  return found;
}

const merge = (...sources: LogSource[]): string[] => {
  const merged = new MergedLogs(sources);
  const found: string[] = [];
  for (let piece = merged.next(); piece !== undefined; piece = merged.next())
    found.push(`${piece.source}:${piece.data}`);
  return found;
};

describe('what one machine printed', () => {
  test('comes in whole lines, each with the time at which it began', () => {
    machine('a').print('one\ntwo\nthr', 1).print('ee', 2).print('\nfour\n', 3).print('prompt> ', 4);
    expect(pieces(open('a'))).toEqual(['1 one\ntwo\n', '1 thr', '+1 ee\n', '3 four\n', '4 prompt> ']);
  });

  test('goes on in the middle of a line when there is more, also in the next file', () => {
    const files = machine('a').print('half', 1);
    const source = open('a');
    expect(pieces(source)).toEqual(['1 half']);
    expect(pieces(source)).toEqual([]);
    files.rotate().print(' whole\nnext\n', 2);
    source.refresh();
    expect(pieces(source)).toEqual(['+1  whole\n', '2 next\n']);
  });

  test('of which somebody wants everything comes as it is, in large parts', () => {
    const bytes = Buffer.from(Array.from({ length: 600_000 }, (_, i) => (i * 7 + (i >> 8)) % 256));
    machine('a').print(bytes.subarray(0, 1000), 1).print(bytes.subarray(1000), 2);
    const source = open('a', {}, true);
    const parts: Buffer[] = [];
    for (let piece = source.peek(); piece !== undefined; piece = source.peek()) {
      parts.push(piece.data);
      source.take();
    }
    expect(parts.length).toBeLessThan(5);
    expect(Buffer.concat(parts).equals(bytes)).toBe(true);
  });

  test('comes in parts where a line is longer than memory is to be', () => {
    machine('a').print(Buffer.alloc(1_000_000, 'x'), 1).print('\nend\n', 2);
    const source = open('a');
    let longest = 0;
    let all = 0;
    for (let piece = source.peek(); piece !== undefined; piece = source.peek()) {
      longest = Math.max(longest, piece.data.length);
      all += piece.data.length;
      source.take();
    }
    expect([all, longest <= 1 << 18]).toEqual([1_000_005, true]);
  });
});

test.each(seeds(5))('whatever is printed and however it is rotated, all of it comes once (seed %i)', (seed) => {
  const { below, chance } = random(seed);
  const files = machine('a').print('');
  const [lines, bytes] = [open('a'), open('a', {}, true)];
  let printed = '';
  const seen = ['', ''];
  const times = new Map<string, bigint>();
  for (let ns = 1, rotated = false; ns < 300; ns++) {
    const text = Array.from({ length: below(12) }, () => (chance(0.25) ? '\n' : 'abc'[below(3)])).join('');
    // Where each line begins, and when.
    for (let at = 0; at < text.length; at++)
      if (at === 0 ? printed === '' || printed.endsWith('\n') : text[at - 1] === '\n')
        times.set(String(printed.length + at), BigInt(ns));
    files.print(text, ns);
    printed += text;
    if (chance(0.1) && !rotated) {
      files.rotate().print('');
      rotated = true;
    }
    if (chance(0.8)) continue;
    rotated = false; // whoever looks after each rotation misses nothing
    for (const [index, source] of [lines, bytes].entries()) {
      source.refresh();
      for (let piece = source.peek(); piece !== undefined; piece = source.peek()) {
        if (index === 0 && piece.begins) expect(piece.timeNs).toBe(times.get(String(seen[index]?.length)));
        seen[index] += String(piece.data);
        source.take();
      }
      expect(seen[index]).toBe(printed);
    }
  }
  expect(times.size).toBeGreaterThan(100);
});

describe('lines of a time', () => {
  const files = () => machine('a').print('1a\n1b\n', 1).print('2a\n2', 2).print('b\n3a\n', 3).print('4\n', 4);

  test('are those that began then: a line belongs to its beginning', () => {
    files();
    expect(pieces(open('a', { sinceNs: 2n }))).toEqual(['2 2a\n', '2 2', '+2 b\n', '3 3a\n', '4 4\n']);
    expect(pieces(open('a', { sinceNs: 3n }))).toEqual(['3 3a\n', '4 4\n']);
    expect(pieces(open('a', { untilNs: 2n }))).toEqual(['1 1a\n1b\n', '2 2a\n', '2 2', '+2 b\n']);
    expect(pieces(open('a', { sinceNs: 3n, untilNs: 3n }))).toEqual(['3 3a\n']);
    expect(pieces(open('a', { sinceNs: 5n }))).toEqual([]);
    expect(pieces(open('a', { untilNs: 0n }))).toEqual([]);
  });

  test('are looked for in both files, and what has no time is old', () => {
    files().rotate().print('5\n', 5);
    expect(pieces(open('a', { sinceNs: 4n }))).toEqual(['4 4\n', '5 5\n']);
    machine('b').print('old\n').rotate().print('new\n', 9);
    expect(pieces(open('b', { sinceNs: 1n }))).toEqual(['9 new\n']);
    expect(pieces(open('b', { untilNs: 1n }))).toEqual(['- old\n']);
    expect([open('b').lacksTimes, open('b', { sinceNs: 1n }).lacksTimes, open('b', { tail: 1 }).lacksTimes]).toEqual([
      true,
      true,
      false,
    ]);
  });

  test('hold for what comes later, too', () => {
    const later = files();
    const source = open('a', { sinceNs: 6n });
    expect(pieces(source)).toEqual([]);
    later.print('no\n', 5).print('yes\n', 6);
    source.refresh();
    expect(pieces(source)).toEqual(['6 yes\n']);
  });

  test('may be the last ones only: counted among those that are wanted', () => {
    files();
    expect(pieces(open('a', { tail: 2 }))).toEqual(['3 3a\n', '4 4\n']);
    expect(pieces(open('a', { tail: 3 }))).toEqual(['2 2', '+2 b\n', '3 3a\n', '4 4\n']);
    expect(pieces(open('a', { tail: 2, untilNs: 2n }))).toEqual(['2 2a\n', '2 2', '+2 b\n']);
    expect(pieces(open('a', { tail: 9, sinceNs: 3n }))).toEqual(['3 3a\n', '4 4\n']);
    expect(pieces(open('a', { tail: 0 }))).toEqual([]);
  });

  test('are none at first with a tail of 0, and then all that comes', () => {
    const later = files();
    const source = open('a', { tail: 0 }, true);
    expect(pieces(source)).toEqual([]);
    later.print('5\n', 5);
    source.refresh();
    expect(pieces(source)).toEqual(['- 5\n']);
  });
});

describe('what several machines printed', () => {
  test('is merged by time, and of equals the first machine comes first', () => {
    machine('a').print('a1\n', 1).print('a3\n', 3).print('a5\n', 5);
    machine('b').print('b2\n', 2).print('b3\n', 3).print('b4\n', 4);
    machine('c');
    expect(merge(open('a'), open('b'), open('c'))).toEqual([
      '0:a1\n',
      '1:b2\n',
      '0:a3\n',
      '1:b3\n',
      '1:b4\n',
      '0:a5\n',
    ]);
  });

  test('is not mixed within a line whose rest is there', () => {
    machine('a').print('a1 ', 1).print('rest\n', 9).print('a9\n', 9);
    machine('b').print('b2\n', 2);
    expect(merge(open('a'), open('b'))).toEqual(['0:a1 ', '0:rest\n', '1:b2\n', '0:a9\n']);
  });

  test('is not mixed either where the rest of a line and something older come together', () => {
    const a = machine('a').print('a5 ', 5);
    const b = machine('b');
    const sources = [open('b'), open('a')];
    const merged = new MergedLogs(sources);
    expect(String(merged.next()?.data)).toBe('a5 ');
    expect(merged.next()).toBeUndefined();
    b.print('b4\n', 4);
    a.print('rest\n', 6);
    for (const source of sources) source.refresh();
    expect([String(merged.next()?.data), String(merged.next()?.data)]).toEqual(['rest\n', 'b4\n']);
  });

  test('begins with what has no time, in the order of its file', () => {
    machine('a').print('a1\n', 1);
    machine('b').print('b-\nb--\n').rotate().print('b0\n', 0).print('b2\n', 2);
    expect(merge(open('a'), open('b'))).toEqual(['1:b-\nb--\n', '1:b0\n', '0:a1\n', '1:b2\n']);
  });
});
