import { expect, test } from 'vitest';
import { renderTimings } from '../../../src/cli/render/timings.ts';
import { pipe } from './support.ts';

test('timings are a table: what, how long, with its parts, and what came one after the other', () => {
  const timings = {
    phases: [
      { what: 'Tsfile and plan', ms: 31, critical: true, parts: [] },
      {
        action: { do: 'machine.wait', machine: 'vm' },
        outcome: 'failed',
        ms: 72_345,
        critical: true,
        parts: [{ what: 'kernel prints', ms: 1034 }],
      },
      {
        action: { do: 'machine.provision', machine: 'box', step: 'a\x1b[2J' },
        outcome: 'done',
        ms: 999,
        critical: false,
        parts: [],
      },
    ],
    criticalMs: 72_376,
    wallMs: 72_400,
  } as const;
  expect(renderTimings(timings, pipe)).toBe(`WHERE  WHAT                           TOOK   CRITICAL
tsv    Tsfile and plan                31ms   *
vm     wait until reachable (failed)  1m12s  *
         kernel prints                1.0s
box    provision a                    999ms
Critical path: 1m12s of 1m12s
`);
});
