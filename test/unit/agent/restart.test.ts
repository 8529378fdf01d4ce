import { describe, expect, test } from 'vitest';
import { endsInRow, restartPauseMs } from '../../../src/agent/restart.ts';
import type { Ending } from '../../../src/model/state.ts';

const at = '2026-01-01T00:00:00.000Z';
const failed: Ending = { at, why: 'exited', code: 3 };
const endings: Readonly<Record<string, Ending>> = {
  'ended with 0': { at, why: 'exited', code: 0 },
  'ended with 3': failed,
  'killed by a signal': { at, why: 'killed', signal: 'KILL' },
  'out of memory': { at, why: 'oom', signal: 'KILL' },
  'its kernel panicked': { at, why: 'panicked', detail: 'VFS: Unable to mount root fs' },
  lost: { at, why: 'lost' },
};

describe('a machine that ended', () => {
  test.each(Object.keys(endings))('%s stays down without a policy', (name) => {
    expect(restartPauseMs(undefined, endings[name] ?? failed, 1)).toBeUndefined();
  });

  test.each(Object.entries(endings))('%s is started again always', (_, ending) => {
    for (const when of ['always', 'unless-stopped'] as const)
      expect(restartPauseMs({ when }, ending, 1)).toBeGreaterThan(0);
  });

  test.each(Object.entries(endings))('%s is started again on failure, unless it ended with 0', (name, ending) => {
    expect(restartPauseMs({ when: 'on-failure' }, ending, 1) !== undefined).toBe(name !== 'ended with 0');
  });

  test('is started again so often and no more', () => {
    const policy = { when: 'on-failure', most: 2 } as const;
    expect([1, 2, 3].map((inRow) => restartPauseMs(policy, failed, inRow) !== undefined)).toEqual([true, true, false]);
  });

  test('waits twice as long each time, up to a minute', () => {
    const pauses = Array.from({ length: 12 }, (_, i) => restartPauseMs({ when: 'always' }, failed, i + 1));
    expect(pauses.slice(0, 4)).toEqual([100, 200, 400, 800]);
    expect(pauses.slice(-2)).toEqual([60_000, 60_000]);
  });

  test('is forgiven once it ran for ten seconds', () => {
    expect(endsInRow(7, 9_999)).toBe(8);
    expect(endsInRow(7, 10_000)).toBe(1);
    expect(endsInRow(0, 0)).toBe(1);
  });
});
