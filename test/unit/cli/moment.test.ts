import { describe, expect, test } from 'vitest';
import { parseMoment } from '../../../src/cli/moment.ts';

const now = 1767268865_000000000n; // 2026-01-01T12:01:05Z
const parsed = (text: string): string | undefined => {
  const ns = parseMoment(text, now);
  return ns === undefined
    ? undefined
    : `${new Date(Number(ns / 1_000_000n)).toISOString()} ${String(ns % 1_000_000_000n)}`;
};

describe('a point in time on the command line', () => {
  test.each([
    ['10m', '2026-01-01T11:51:05.000Z 0'],
    ['1h30m', '2026-01-01T10:31:05.000Z 0'],
    ['1.5h', '2026-01-01T10:31:05.000Z 0'],
    ['.5s', '2026-01-01T12:01:04.500Z 500000000'],
    ['1500ms', '2026-01-01T12:01:03.500Z 500000000'],
    ['1767268860', '2026-01-01T12:01:00.000Z 0'],
    ['1767268860.000000001', '2026-01-01T12:01:00.000Z 1'],
    ['1767268860.5', '2026-01-01T12:01:00.500Z 500000000'],
    ['2026-01-31T10:20:30Z', '2026-01-31T10:20:30.000Z 0'],
    ['2026-01-31T10:20:30.123456789Z', '2026-01-31T10:20:30.123Z 123456789'],
    ['2026-01-31T10:20:30+02:00', '2026-01-31T08:20:30.000Z 0'],
    ['2026-01-31T10:20Z', '2026-01-31T10:20:00.000Z 0'],
    ['2026-01-31T10Z', '2026-01-31T10:00:00.000Z 0'],
    ['2026-01-31Z', '2026-01-31T00:00:00.000Z 0'],
  ])('%s is %s', (text, expected) => {
    expect(parsed(text)).toBe(expected);
  });

  test('without a zone is local time', () => {
    expect(parseMoment('2026-01-31', now)).toBe(BigInt(new Date(2026, 0, 31).getTime()) * 1_000_000n);
    expect(parseMoment('2026-01-31 10:20:30.25', now)).toBe(
      BigInt(new Date(2026, 0, 31, 10, 20, 30, 250).getTime()) * 1_000_000n,
    );
  });

  test.each([
    '',
    'now',
    '10',
    '10x',
    'm',
    '1h 2m',
    '-5m',
    '2026-13-01',
    '2026-02-30',
    '2026-01-31T25:00',
    '1e9',
    '2026',
  ])('%j is a number of seconds, or none', (text) => {
    expect(parsed(text)?.startsWith('1970-01-01')).toBe(/^\d+$/.test(text) ? true : undefined);
  });
});
