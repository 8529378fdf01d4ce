import { describe, expect, test } from 'vitest';
import { LogPrinter, logPrefixes, logTime } from '../../../src/cli/render/log-printer.ts';

const lines = (
  options: Partial<ConstructorParameters<typeof LogPrinter>[0]>,
  ...pieces: [source: number, text: string, begins?: boolean, timeNs?: bigint][]
): string => {
  const printer = new LogPrinter({ timestamps: false, several: true, ...options });
  for (const [source, text, begins = true, timeNs] of pieces)
    printer.print({ source, data: Buffer.from(text), begins, timeNs });
  printer.end();
  const blocks = printer.take();
  expect(printer.bytes).toBe(0);
  return Buffer.concat(blocks).toString();
};
const prefixes = logPrefixes(['a', 'web-1'], { colour: false });

describe('lines of several machines', () => {
  test('bear the name of their machine, all as wide', () => {
    expect(lines({ prefixes }, [0, 'one\ntwo\n'], [1, 'three\n'])).toBe('a     | one\na     | two\nweb-1 | three\n');
  });

  test('have a colour for each machine, by its place, again and again', () => {
    const coloured = logPrefixes(['a', 'b', 'c', 'd', 'e', 'f'], { colour: true });
    expect(new Set(coloured.map((prefix) => prefix.slice(0, 5))).size).toBe(5);
    expect(coloured[0]).toBe('\x1b[36ma | \x1b[39m');
    expect(coloured[5]?.slice(0, 5)).toBe(coloured[0]?.slice(0, 5));
  });

  test('have the time behind the name, as docker prints it', () => {
    expect(logTime(1767268865123456789n)).toBe('2026-01-01T12:01:05.123456789Z ');
    expect(logTime(1767268865000000001n)).toBe('2026-01-01T12:01:05.000000001Z ');
    expect(lines({ prefixes, timestamps: true }, [0, 'x\n', true, 0n], [1, 'y\n'])).toBe(
      'a     | 1970-01-01T00:00:00.000000000Z x\nweb-1 | - y\n',
    );
  });

  test('are ended where another machine prints, and go on with its name again', () => {
    expect(lines({ prefixes }, [0, 'name? '], [1, 'b\n'], [0, 'me\n', false])).toBe(
      'a     | name? \nweb-1 | b\na     | me\n',
    );
    expect(lines({ prefixes }, [0, 'done'], [1, 'b\n'], [0, '\n', false], [0, 'next\n'])).toBe(
      'a     | done\nweb-1 | b\na     | next\n',
    );
    expect(lines({}, [0, 'name? '], [1, 'b\n'])).toBe('name? \nb\n');
  });

  test('come in parts and stay one line; the last one is ended', () => {
    expect(lines({ prefixes }, [0, 'a'], [0, 'b', false], [0, 'c\n', false], [0, 'd'])).toBe(
      'a     | abc\na     | d\n',
    );
  });
});

describe('what one machine printed', () => {
  test('comes out byte for byte, in order, also where small parts lie between large ones', () => {
    const parts = [10, 100_000, 3, 70_000, 65_536, 65_537, 1].map((size, i) => Buffer.alloc(size, i + 200));
    const printer = new LogPrinter({ timestamps: false, several: false });
    for (const data of parts) printer.print({ source: 0, data, begins: true, timeNs: undefined });
    printer.end();
    expect(Buffer.concat(printer.take()).equals(Buffer.concat(parts))).toBe(true);
  });
});
