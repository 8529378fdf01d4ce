import { describe, expect, test } from 'vitest';
import { isolationOf, type Machine } from '../../../src/model/project.ts';
import { type CacheView, layersOf } from '../../../src/plan/cache.ts';
import type { ProvisionMode } from '../../../src/plan/provisioning.ts';
import { afterUp, container, printed, project, step, text, withRecord } from './fixtures.ts';

const steps = [step('one'), step('two', 'on-change'), step('three')];
const web = (fields: Partial<Machine> = {}): Machine => container('web', { cache: true, provision: steps, ...fields });
const shop = { name: 'shop', dir: '/shop' };
const keys = (machine: Machine, at = shop, digest = 'b1') => layersOf(machine, at, digest).map(({ key }) => key);
const view = (layers: readonly string[], anew = false): CacheView => ({
  digests: { web: 'b1' },
  layers: new Set(layers),
  anew,
});
const nothing = { state: undefined, machines: {}, sandboxAlive: false, servicesAlive: false };
const up = (machine: Machine, cache: CacheView, more: { provision?: ProvisionMode } = {}) =>
  printed({ command: 'up', wanted: project([machine]), observation: nothing, options: { cache, ...more } })
    .split('\n')
    .filter((line) => !/sandbox|network|box\.ensure/.test(line))
    .map((line) => line.replace(/^\[\d+\]( <- [\d,]+)? +/, ''));

describe('keys of layers', () => {
  test('are of the first steps, up to one that may not be cached; steps that do not run do not count', () => {
    const names = (provision: Machine['provision']) =>
      layersOf(web({ provision }), shop, 'b1').map(({ step: name }) => name);
    expect(names(steps)).toEqual(['one', 'two', 'three']);
    expect(names([step('one'), step('each', 'always'), step('three')])).toEqual(['one']);
    expect(names([step('one'), { ...step('secret'), uncached: true }, step('three')])).toEqual(['one']);
    expect(keys(web({ provision: [step('one'), step('asked', 'never'), ...steps.slice(1)] }))).toEqual(keys(web()));
    const { cache: _, ...without } = web();
    expect(keys(without)).toEqual([]);
    const vm: Machine = { ...web(), kind: 'vm' };
    expect(keys(vm)).toHaveLength(3);
    expect(keys({ ...vm, disks: [{ name: 'data', sizeBytes: 1 }] })).toEqual([]);
  });

  test('differ when the step, one before it, or what decides about the machine differs; a name decides nothing', () => {
    const [one, two, three] = keys(web());
    expect(new Set([one, two, three]).size).toBe(3);
    const second = keys(web({ provision: [step('one'), step('two', 'once', 'f2'), step('three')] }));
    expect(second[0]).toBe(one);
    expect(second.slice(1)).not.toContain(two);
    expect(second.slice(1)).not.toContain(three);
    expect(keys(web({ provision: [step('uno'), step('due'), step('tre')] }))).toEqual([one, two, three]);
    const others = [
      keys(web(), { ...shop, name: 'market' }),
      keys(web(), { ...shop, dir: '/copy' }),
      keys(web(), shop, 'b2'),
      keys(web({ hostname: 'other' })),
      keys(web({ env: { A: '1' } })),
      keys(web({ command: ['sleep', 'inf'] })),
      keys(web({ isolation: { ...isolationOf({}), workdir: '/srv' } })),
      keys(web({ shares: [{ host: '/src', guest: '/src', readonly: false }] })),
      keys(web({ volumes: [{ name: 'data', guest: '/data', readonly: false }] })),
      keys(web({ disks: [{ name: 'data', sizeBytes: 1, mount: '/data' }] })),
    ].map(([first]) => first);
    expect(new Set([one, ...others]).size).toBe(others.length + 1);
  });

  test('do not depend on limits, ports, addresses, the name, nor on the order of variables or where a profile lies', () => {
    const env = { A: '1', B: '2' };
    const isolation = { ...isolationOf({}), seccomp: { path: '/a', digest: 'p' } };
    expect(keys(web({ env, isolation }))).toEqual(
      keys(
        web({
          name: 'front',
          group: 'front',
          env: { B: '2', A: '1' },
          isolation: { ...isolation, seccomp: { path: '/b', digest: 'p' } },
          memoryBytes: 1,
          cpus: 4,
          forwards: [{ hostAddress: '127.0.0.1', hostPort: 1, guestPort: 2 }],
          networks: [{ network: 'default', address: '10.0.0.9' }],
        }),
      ),
    );
  });
});

describe('the plan of a new machine', () => {
  test('without layers: all steps run, and are kept', () => {
    expect(up(web(), view([]))).toEqual([
      'machine.create web  (new)',
      'machine.start web  (new)',
      'machine.wait web  (started)',
      'machine.provision web one (is kept)  (not done)',
      'machine.provision web two (is kept)  (not done)',
      'machine.provision web three (is kept)  (not done)',
    ]);
  });

  test('takes the deepest layer, whether those before it are there or not, and runs the steps after it', () => {
    const [one, two] = keys(web());
    for (const there of [[two], [one, two]]) {
      expect(up(web(), view(there as string[]))).toEqual([
        'machine.create web (with one, two)  (new)',
        'machine.start web  (new)',
        'machine.wait web  (started)',
        'machine.cached web one  (cached)',
        'machine.cached web two  (cached)',
        'machine.provision web three (is kept)  (not done)',
      ]);
    }
  });

  test('runs what runs always, and keeps nothing of it nor of what follows', () => {
    const machine = web({ provision: [step('one'), step('each', 'always'), step('three')] });
    expect(up(machine, view(keys(machine))).slice(3)).toEqual([
      'machine.cached web one  (cached)',
      'machine.provision web each  (runs always, not cached)',
      'machine.provision web three  (not done, not cached)',
    ]);
  });

  test('takes no layer and makes them anew with --no-cache and --provision, and none is used or made with --no-provision', () => {
    for (const [cache, more] of [
      [view(keys(web()), true), {}],
      [view(keys(web())), { provision: 'force' }],
    ] as const) {
      const lines = up(web(), cache, more);
      expect(lines[0]).toBe('machine.create web  (new)');
      expect(lines.filter((line) => line.includes('(is kept)'))).toHaveLength(3);
    }
    expect(up(web(), view(keys(web())), { provision: false }).join()).not.toMatch(/provision|cached|with/);
  });

  test('of a box whose digest is not known, or a machine without cache, is as ever', () => {
    const plain = up(web(), { ...view(keys(web())), digests: {} });
    expect(plain.at(-1)).toBe('machine.provision web three  (not done)');
    const { cache: _, ...without } = web();
    expect(up(without, view(keys(web())))).toEqual(plain);
  });
});

test('a machine that is there is neither made from layers nor kept, whatever it still has to run', () => {
  const wanted = project([web()]);
  const observation = withRecord(afterUp(wanted), 'web', { steps: { one: { fingerprint: 'f1', doneAt: '' } } });
  expect(printed({ command: 'up', wanted, observation, options: { cache: view(keys(web())) } })).toBe(text`
    [1]  machine.provision web two  (not done)
    [2] <- 1  machine.provision web three  (not done)
  `);
});

test('tsv provision --no-cache forgets the layers of the steps that it runs and of those that rest on them', () => {
  const wanted = project([web()]);
  const digest = 'b1';
  const observation = withRecord(afterUp(wanted), 'web', { boxDigest: digest });
  const plan = (options: { only?: string; forget?: boolean }) =>
    printed({ command: 'provision', wanted, observation, options }).split('\n');
  expect(plan({ forget: true })).toHaveLength(4);
  expect(plan({ forget: true })[0]).toBe('[1]  machine.forget web  (asked for)');
  expect(plan({ only: 'two', forget: true })).toHaveLength(2);
  expect(plan({})).toHaveLength(3);
});
