import { describe, expect, test } from 'vitest';
import type { TsvEvent } from '../../../src/model/events.ts';
import type { Action, Plan } from '../../../src/model/plan.ts';
import { criticalPath, timingsOf } from '../../../src/plan/timings.ts';
import { random, seeds } from './random.ts';

const planOf = (...nodes: readonly [action: Action, ...after: number[]][]): Plan => ({
  nodes: nodes.map(([action, ...after], index) => ({ id: index + 1, action, cause: 'new', after })),
});
const timing = (what: string, ms: number, id?: number): TsvEvent => ({
  type: 'timing',
  what,
  ms,
  ...(id === undefined ? {} : { id }),
});
const end = (id: number, ms: number, outcome: 'done' | 'failed' | 'skipped' = 'done'): TsvEvent => ({
  type: 'step.end',
  id,
  outcome,
  ms,
});

const boot: Action = { do: 'machine.wait', machine: 'vm' };

describe('where the time of a command went', () => {
  test('is in its own work, in the steps with their parts, and in what came one after the other', () => {
    const start: Action = { do: 'machine.start', machine: 'vm' };
    const other: Action = { do: 'machine.start', machine: 'box' };
    const events = [
      timing('Tsfile and plan', 30),
      timing('agent', 100),
      { type: 'plan', plan: planOf([start], [boot, 1], [other]) } as const,
      end(3, 40),
      end(1, 400),
      timing('kernel prints', 1000, 2),
      timing('login works', 500, 2),
      end(2, 1600),
    ];
    expect(timingsOf(events, 2200)).toEqual({
      phases: [
        { what: 'Tsfile and plan', ms: 30, critical: true, parts: [] },
        { what: 'agent', ms: 100, critical: true, parts: [] },
        { action: start, outcome: 'done', ms: 400, critical: true, parts: [] },
        {
          action: boot,
          outcome: 'done',
          ms: 1600,
          critical: true,
          parts: [
            { what: 'kernel prints', ms: 1000 },
            { what: 'login works', ms: 500 },
          ],
        },
        { action: other, outcome: 'done', ms: 40, critical: false, parts: [] },
      ],
      criticalMs: 2130,
      wallMs: 2200,
    });
  });

  test('counts what was got on the way as parts of the getting, and leaves out what was not done', () => {
    const get: Action = { do: 'image.ensure', image: 'docker.io/library/redis:7' };
    const events = [
      { type: 'plan', plan: planOf([get]) } as const,
      end(1, 900),
      timing('boxes and images', 950),
      { type: 'plan', plan: planOf([boot], [{ do: 'machine.healthy', machine: 'vm' }, 1]) } as const,
      end(1, 5000, 'failed'),
      end(2, 0, 'skipped'),
    ];
    expect(timingsOf(events, 6000)).toEqual({
      phases: [
        {
          what: 'boxes and images',
          ms: 950,
          critical: true,
          parts: [{ what: 'image.ensure docker.io/library/redis:7', ms: 900 }],
        },
        { action: boot, outcome: 'failed', ms: 5000, critical: true, parts: [] },
      ],
      criticalMs: 5950,
      wallMs: 6000,
    });
  });

  test('of a command that did nothing is its own work', () => {
    expect(timingsOf([timing('start of tsv', 80)], 90)).toMatchObject({ criticalMs: 80, wallMs: 90 });
  });
});

test.each(seeds(60))('the critical path is the longest chain of dependencies of a plan (seed %i)', (seed) => {
  const { below, chance } = random(seed);
  const nodes = Array.from({ length: 1 + below(9) }, (_, index): [Action, ...number[]] => [
    { do: 'machine.start', machine: `m${index + 1}` },
    ...Array.from({ length: index }, (__, other) => other + 1).filter(() => chance(0.4)),
  ]);
  const plan = planOf(...nodes);
  const msOf = (id: number): number => durations[id - 1] ?? 0;
  const durations = plan.nodes.map(() => below(50));
  const path = criticalPath(plan, msOf);
  const length = [...path].reduce((sum, id) => sum + msOf(id), 0);
  // All chains, one by one.
  const longestTo = (id: number): number =>
    msOf(id) + Math.max(0, ...(plan.nodes.find((node) => node.id === id)?.after ?? []).map(longestTo));
  expect(length).toBe(Math.max(...plan.nodes.map(({ id }) => longestTo(id))));
  const inOrder = [...path].sort((a, b) => a - b);
  for (const [index, id] of inOrder.entries())
    if (index > 0) expect(plan.nodes[id - 1]?.after).toContain(inOrder[index - 1]);
});
