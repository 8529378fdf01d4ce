import { describe, expect, test } from 'vitest';
import type { Project } from '../../../src/model/project.ts';
import type { Observation } from '../../../src/model/state.ts';
import type { ProvisionMode } from '../../../src/plan/provisioning.ts';
import {
  afterUp,
  chain,
  died,
  edit,
  loadBalancer,
  nothing,
  onlyMade,
  printed,
  single,
  step,
  stopped,
  text,
  withNetworks,
  withoutWeb3,
} from './fixtures.ts';

const up = (wanted: Project, observation: Observation, targets: string[] = [], provision: ProvisionMode = true) =>
  printed({ command: 'up', wanted, observation, targets, options: { provision } });

describe('tsv up with names or options', () => {
  test('one target: the machine and what it depends on, nothing else', () => {
    expect(up(loadBalancer(), nothing, ['web-2'])).toBe(text`
      [1]  sandbox.ensure  (new)
      [2] <- 1  network.ensure backend  (new)
      [3]  box.ensure debian-12 container  (needed by web-2)
      [4] <- 2,3  machine.create web-2  (new)
      [5] <- 4  machine.start web-2  (new)
      [6] <- 5  machine.wait web-2  (started)
      [7] <- 6  machine.provision web-2 nginx  (not done)
      [8] <- 7  machine.healthy web-2  (started)
    `);
  });

  test('a target with dependencies brings them along', () => {
    expect(up(chain, nothing, ['app'])).toBe(text`
      [1]  sandbox.ensure  (new)
      [2] <- 1  network.ensure default  (new)
      [3]  box.ensure debian-12 container  (needed by queue and 1 more)
      [4]  box.ensure debian-12 vm  (needed by db)
      [5] <- 2,3  machine.create queue  (new)
      [6] <- 5  machine.start queue  (new)
      [7] <- 6  machine.wait queue  (started)
      [8] <- 2,4  machine.create db  (new)
      [9] <- 7,8  machine.start db  (new)
      [10] <- 9  machine.wait db  (started)
      [11] <- 2,3  machine.create app  (new)
      [12] <- 10,11  machine.start app  (new)
      [13] <- 12  machine.wait app  (started)
    `);
  });

  test("a group's name means all its replicas", () => {
    expect(up(loadBalancer(), afterUp(loadBalancer(), { 'web-1': died, 'web-3': died, db: died }), ['web'])).toBe(text`
      [1]  machine.start web-1  (ended unexpectedly)
      [2] <- 1  machine.wait web-1  (started)
      [3] <- 2  machine.healthy web-1  (started)
      [4]  machine.start web-3  (ended unexpectedly)
      [5] <- 4  machine.wait web-3  (started)
      [6] <- 5  machine.healthy web-3  (started)
    `);
  });

  test('a target leaves removed machines alone', () => {
    expect(up(withoutWeb3, afterUp(loadBalancer()), ['web-1'])).toBe(text`
      nothing to do
    `);
  });

  test('a dependency that runs but starts nothing is asked for its health before a dependent starts', () => {
    expect(up(loadBalancer(), afterUp(loadBalancer(), { lb: stopped }), ['lb'])).toBe(text`
      [1]  network.ensure default  (no machine runs on it)
      [2]  machine.healthy web-1  (lb needs it)
      [3]  machine.healthy web-2  (lb needs it)
      [4]  machine.healthy web-3  (lb needs it)
      [5] <- 1,2,3,4  machine.start lb  (not running)
      [6] <- 5  machine.wait lb  (started)
    `);
  });

  test('--no-provision starts without provisioning', () => {
    expect(up(loadBalancer(), onlyMade(afterUp(loadBalancer()), 'web-1', 'web-2', 'web-3', 'lb'), [], false)).toBe(text`
      [1]  box.ensure debian-12 vm  (needed by db)
      [2] <- 1  machine.create db  (new)
      [3] <- 2  machine.start db  (new)
      [4] <- 3  machine.wait db  (started)
    `);
  });

  test('--provision runs what was done before, but not what never runs by itself', () => {
    expect(
      up(
        edit(single, { db: { provision: [step('packages'), step('conf', 'on-change'), step('reset', 'never')] } }),
        afterUp(single),
        [],
        'force',
      ),
    ).toBe(text`
      [1]  machine.provision db packages  (forced)
      [2] <- 1  machine.provision db conf  (not done)
    `);
  });

  test('a name that is no machine of the project is refused with the names that are', () => {
    expect(() => up(loadBalancer(), nothing, ['web', 'wbe', 'x'])).toThrow(
      expect.objectContaining({
        code: 'TSV_UNKNOWN_MACHINE',
        message: 'no machine of this project is named wbe, x',
        details: ['its machines: lb, web, web-1, web-2, web-3, db'],
      }),
    );
  });

  test('a changed network is not pulled from under a running machine that was not named', () => {
    const changed = withNetworks([
      { name: 'default', mode: 'nat' },
      { name: 'backend', mode: 'nat', subnet: '10.77.1.0/24' },
    ]);
    expect(() => up(changed, afterUp(loadBalancer()), ['web-1'])).toThrow(
      expect.objectContaining({ code: 'TSV_USAGE', details: ['not named, but running on it: lb, web-2, web-3, db'] }),
    );
  });
});
