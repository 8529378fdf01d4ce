import { describe, expect, test } from 'vitest';
import type { Observation } from '../../../src/model/state.ts';
import { oneOffName } from '../../../src/plan/one-off.ts';
import { afterHalt, afterUp, container, died, edit, nothing, printed, project, text } from './fixtures.ts';

const shop = project([container('web')]);
const oneOff = container('run-1', { oneOff: true, entrypoint: [], command: [] });
/** The shop, and what somebody runs beside it. */
const beside = (before: Observation = afterUp(shop)): Observation => {
  const { state, machines } = afterUp(project([oneOff]));
  if (state === undefined || before.state === undefined) throw new Error('no state');
  return {
    ...before,
    state: { ...before.state, machines: { ...before.state.machines, ...state.machines } },
    machines: { ...before.machines, ...machines },
  };
};
const run = (observation: Observation, wanted = shop) =>
  printed({
    command: 'run',
    wanted: { ...wanted, machines: [...wanted.machines, oneOff] },
    observation,
    target: 'run-1',
  });
const up = (observation: Observation, wanted = shop) => printed({ command: 'up', wanted, observation });

describe('tsv run', () => {
  test('makes and starts its container, and touches no other machine, though they are down or changed', () => {
    const own = text`
      [1]  box.ensure debian-12 container  (needed by run-1)
      [2] <- 1  machine.create run-1  (new)
      [3] <- 2  machine.start run-1  (new)
      [4] <- 3  machine.wait run-1  (started)
    `;
    expect(run(afterUp(edit(shop, { web: { box: 'debian-13' } })))).toBe(own);
    expect(run(afterUp(shop, { web: died }))).toMatch(/network\.ensure default[\s\S]*machine\.wait run-1/);
    expect(run(afterUp(shop, { web: died }))).not.toContain('web');
  });

  test('brings the sandbox and the network where there are none', () => {
    const ground =
      /^\[1] {2}sandbox\.ensure[^\n]*\n\[2] <- 1 {2}network\.ensure default[^\n]*\n.*\n.*machine\.create run-1/;
    expect(run(nothing)).toMatch(ground);
    expect(run(afterHalt(shop))).toMatch(ground);
  });

  test('takes a network as it is, whatever the Tsfile says of it by now', () => {
    const edited = project(shop.machines, [{ name: 'default', mode: 'isolated', subnet: '10.1.2.0/24' }]);
    expect(run(afterUp(shop), edited)).not.toContain('network');
  });
});

describe('what tsv run runs', () => {
  test('is left alone by up, together with its network', () => {
    expect(up(beside())).toBe('nothing to do');
    const elsewhere = edit(project(shop.machines, [{ name: 'other', mode: 'nat' }]), {
      web: { networks: [{ network: 'other' }] },
    });
    const plan = up(beside(), elsewhere);
    expect(plan).toContain('network.ensure other');
    expect(plan).not.toMatch(/run-1|network\.remove/);
  });

  test('keeps up from changing the network under it', () => {
    const edited = project(shop.machines, [{ name: 'default', mode: 'isolated' }]);
    expect(() => up(beside(), edited)).toThrow(
      expect.objectContaining({ code: 'TSV_USAGE', hint: expect.stringContaining('tsv halt run-1') }),
    );
  });

  test('makes way for a machine that the Tsfile calls so', () => {
    const plan = up(beside(), project([container('web'), container('run-1')]));
    expect(plan).toMatch(/machine\.stop run-1[\s\S]*machine\.destroy run-1[\s\S]*machine\.create run-1/);
  });

  test('is not restarted', () => {
    expect(printed({ command: 'restart', observation: beside(), targets: [] })).not.toContain('run-1');
    expect(() => printed({ command: 'restart', observation: beside(), targets: ['run-1'] })).toThrow(/does not start/);
  });

  test('goes with halt and destroy, and with halt keeps the sandbox as long as it is not meant', () => {
    const halt = (targets: string[]) => printed({ command: 'halt', wanted: undefined, observation: beside(), targets });
    expect(halt([])).toMatch(/machine\.stop run-1[\s\S]*sandbox\.remove/);
    expect(halt(['web'])).toBe('[1]  machine.stop web  (halt)');
    const destroy = printed({ command: 'destroy', wanted: undefined, observation: beside(), targets: [] });
    expect(destroy).toMatch(/machine\.destroy run-1/);
  });
});

describe('its name', () => {
  test('is the first that nobody has', () => {
    expect(oneOffName(undefined, new Set())).toBe('run-1');
    expect(oneOffName(undefined, new Set(['run-1', 'run-3']))).toBe('run-2');
    expect(oneOffName('client', new Set(['run-1']))).toBe('client');
    expect(() => oneOffName('web', new Set(['web']))).toThrow(/machine web already/);
  });
});
