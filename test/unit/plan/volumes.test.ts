import { describe, expect, test } from 'vitest';
import type { Project, Volume } from '../../../src/model/project.ts';
import type { Observation, VolumeState } from '../../../src/model/state.ts';
import { reconcile } from '../../../src/plan/reconcile.ts';
import { afterHalt, afterUp, container, nothing, printed, project, text, without } from './fixtures.ts';

const use = { name: 'data', guest: '/data', readonly: false };
const withVolumes = (volumes: readonly Volume[], ...machines: Parameters<typeof container>[]): Project => ({
  ...project(
    machines.map(([name, fields]) => container(name, { networks: [], ...fields })),
    [],
  ),
  volumes,
});
const data = { name: 'data', keep: false };
const two = withVolumes([data], ['a', { volumes: [use] }], ['b', { volumes: [use] }]);
const up = (wanted: Project, observation: Observation, targets: string[] = []) =>
  printed({ command: 'up', wanted, observation, targets });
const destroy = (observation: Observation, targets: string[] = []) =>
  printed({ command: 'destroy', wanted: undefined, observation, targets });
const having = (before: Observation, volumes: Readonly<Record<string, VolumeState>>): Observation =>
  before.state === undefined ? before : { ...before, state: { ...before.state, volumes } };

describe('a volume', () => {
  test('is known before the first container that has it is made', () => {
    expect(up(two, nothing)).toBe(text`
      [1]  sandbox.ensure  (new)
      [2]  volume.ensure data  (new)
      [3]  box.ensure debian-12 container  (needed by a and 1 more)
      [4] <- 1,2,3  machine.create a  (new)
      [5] <- 4  machine.start a  (new)
      [6] <- 5  machine.wait a  (started)
      [7] <- 1,2,3  machine.create b  (new)
      [8] <- 7  machine.start b  (new)
      [9] <- 8  machine.wait b  (started)`);
  });

  test('is nothing to do when it is there', () => {
    expect(up(two, afterUp(two))).toBe('nothing to do');
  });

  test('that comes to a machine starts it anew, and does not make it anew', () => {
    const before = { ...two, machines: two.machines.map(({ volumes: _, ...machine }) => machine) };
    expect(up(two, having(afterUp(before), {}), ['a'])).toBe(text`
      [1]  machine.stop a  (volumes changed)
      [2]  volume.ensure data  (new)
      [3] <- 1,2  machine.start a  (volumes changed)
      [4] <- 3  machine.wait a  (started)`);
  });

  test('of which only whether it is kept has changed disturbs no machine', () => {
    const kept = { ...two, volumes: [{ ...data, keep: true }] };
    expect(up(kept, afterUp(two))).toBe('[1]  volume.ensure data  (`keep` changed)');
  });

  test('that leaves the Tsfile is told once, stays, and goes with destroy', () => {
    const { volumes: _, ...gone } = edited(two);
    expect(up(gone, having(afterUp(gone), { data: { keep: false } }))).toBe(
      '[1]  volume.leave data  (no longer in the Tsfile; tsv destroy removes it)',
    );
    const left = having(afterUp(gone), { data: { keep: false, left: true } });
    expect(up(gone, left)).toBe('nothing to do');
    expect(up(gone, having(afterUp(gone), { data: { keep: false } }), ['a'])).toBe('nothing to do');
    expect(up(two, left, ['a'])).toContain('volume.ensure data  (in the Tsfile again)');
    expect(destroy(left)).toContain('volume.remove data  (destroy)');
  });

  test('goes with the whole project, after all machines', () => {
    expect(destroy(afterHalt(two))).toBe(text`
      [1]  machine.destroy b  (destroy)
      [2]  machine.destroy a  (destroy)
      [3] <- 1,2  volume.remove data  (destroy)`);
  });

  test('that is to be kept is kept, and the plan says so', () => {
    expect(destroy(having(afterHalt(two), { data: { keep: true } }))).toMatch(
      /\[3\] <- 1,2 {2}volume\.keep data {2}\(`keep: true`\)$/,
    );
  });

  test('stays when machines are named, be it all of them; what is left of the project then goes without any', () => {
    expect(destroy(afterHalt(two), ['a', 'b'])).not.toContain('volume');
    const bare = without(two, 'a', 'b');
    expect(destroy(having(afterHalt(bare), { data: { keep: false } }))).toBe('[1]  volume.remove data  (destroy)');
  });

  test('is not removed by hand while a machine has it, running or not', () => {
    const remove = (observation: Observation) => () =>
      reconcile({ command: 'volume rm', observation, targets: ['data'] });
    expect(remove(afterHalt(two))).toThrow(
      expect.objectContaining({
        code: 'TSV_IN_USE',
        details: ['volume data: a', 'volume data: b'],
        hint: expect.stringContaining('tsv destroy a b'),
      }),
    );
    expect(remove(having(afterHalt(without(two, 'a', 'b')), { data: { keep: true } }))().nodes).toMatchObject([
      { action: { do: 'volume.remove', volume: 'data' } },
    ]);
  });
});

/** The same without any volume. */
function edited(before: Project): Project {
  return { ...before, machines: before.machines.map(({ volumes: _, ...machine }) => machine) };
}
