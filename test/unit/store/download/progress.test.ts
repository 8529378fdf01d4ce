import { describe, expect, test } from 'vitest';
import { nextPace, type Pace, progressTeller, progressText } from '../../../../src/store/download/progress.ts';

const MB = 1e6;

describe('the progress of a download', () => {
  test('has an amount at first, and rate and time left when it has a pace', () => {
    expect(progressText(0, 200 * MB)).toBe('0 of 200 MB');
    const pace = { atMs: 0, done: 0, bytesPerSecond: 8.12 * MB };
    expect(progressText(12.3 * MB, 200 * MB, pace)).toBe('12 of 200 MB, 8.1 MB/s, 23 s left');
    expect(progressText(MB, 2040 * MB, pace)).toBe('0 of 2 GB, 8.1 MB/s, 4 min 11 s left');
    expect(progressText(MB, 20_000 * MB, { ...pace, bytesPerSecond: MB })).toContain('5 h 33 min left');
    expect(progressText(200 * MB, 200 * MB, pace)).toBe('200 of 200 MB');
    expect(progressText(MB, 2 * MB, { ...pace, bytesPerSecond: 0 })).toBe('1 of 2 MB, waiting');
  });

  test('shows small files in their own unit', () => {
    expect(progressText(5, 812)).toBe('5 of 812 B');
    expect(progressText(812, 4500)).toBe('0.8 of 4.5 kB');
    expect(progressText(0.14 * MB, 210 * MB)).toBe('0.1 of 210 MB');
  });

  test('has a pace that follows the rate, smoothly', () => {
    let pace: Pace | undefined;
    for (let second = 0; second <= 30; second++) pace = nextPace(pace, second * 1000, second * MB);
    expect(pace?.bytesPerSecond).toBeCloseTo(MB);
    const once = nextPace(pace, 31_000, 40 * MB);
    expect(once.bytesPerSecond).toBeGreaterThan(MB);
    expect(once.bytesPerSecond).toBeLessThan(5 * MB);
  });

  test('takes looks that follow closely as one, and begins anew when bytes go back', () => {
    const first = nextPace(undefined, 0, 0);
    expect(nextPace(first, 100, MB)).toBe(first);
    const second = nextPace(first, 1000, MB);
    expect(second.bytesPerSecond).toBe(MB);
    expect(nextPace(second, 2000, 0)).toEqual({ atMs: 2000, done: 0 });
  });

  test('is told with its pace by whoever keeps a clock', () => {
    let now = 0;
    const tell = progressTeller(() => now);
    expect(tell(0, 100 * MB)).toBe('0 of 100 MB');
    now = 1000;
    expect(tell(10 * MB, 100 * MB)).toBe('10 of 100 MB, 10 MB/s, 9 s left');
    now = 1001;
    expect(tell(100 * MB, 100 * MB)).toBe('100 of 100 MB');
  });
});
