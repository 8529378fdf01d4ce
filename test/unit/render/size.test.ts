import { describe, expect, test } from 'vitest';
import { formatAge, formatBytes } from '../../../src/cli/render/size.ts';

test.each([
  [0, '0 B'],
  [999, '999 B'],
  [1000, '1.0 kB'],
  [99_949, '99.9 kB'],
  [99_950, '100 kB'],
  [999_499, '999 kB'],
  [999_500, '1.0 MB'],
  [67_300_000, '67.3 MB'],
  [1.2e15, '1200 TB'],
])('%d bytes are %s', (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});

describe('the age of a time', () => {
  const now = Date.parse('2026-01-31T12:00:00Z');
  test.each([
    ['2026-01-31T11:59:30Z', 'just now'],
    ['2026-01-31T11:59:00Z', '1 minute ago'],
    ['2026-01-31T09:00:00Z', '3 hours ago'],
    ['2026-01-22T12:00:00Z', '9 days ago'],
    ['2026-01-10T12:00:00Z', '3 weeks ago'],
    ['2025-10-31T12:00:00Z', '3 months ago'],
    ['2020-01-31T12:00:00Z', '6 years ago'],
    ['2030-01-01T00:00:00Z', 'just now'],
    ['yesterday', 'yesterday'],
    [undefined, ''],
  ])('%s is %j', (time, text) => {
    expect(formatAge(time, now)).toBe(text);
  });
});
