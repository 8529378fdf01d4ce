import { describe, expect, test } from 'vitest';
import { type Upgrade, upgrade } from '../../../src/state/migrations.ts';

const code = (expected: string) => expect.objectContaining({ code: expected });

describe('migrations', () => {
  const table = new Map<number, Upgrade>([
    [1, (state) => ({ ...state, two: true })],
    [2, (state) => ({ ...state, three: 'two' in state })],
  ]);

  test('run one after the other up to the current version', () => {
    expect(upgrade({ version: 1, old: 1 }, 'f', 3, table)).toEqual({ version: 3, old: 1, two: true, three: true });
    expect(upgrade({ version: 2 }, 'f', 3, table)).toEqual({ version: 3, three: false });
  });

  test('leave a state of the current version alone', () => {
    expect(upgrade({ version: 3, x: 1 }, 'f', 3, table)).toEqual({ version: 3, x: 1 });
  });

  test('refuse what is newer, and what is older than the first', () => {
    expect(() => upgrade({ version: 4 }, 'f', 3, table)).toThrow(code('TSV_STATE_NEWER'));
    expect(() => upgrade({ version: 0 }, 'f', 3, table)).toThrow('version: 0 is none that any tsv wrote');
    expect(() => upgrade({ version: 1.5 }, 'f', 3, table)).toThrow('version: not a number');
  });
});
