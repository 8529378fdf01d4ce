import { describe, expect, test } from 'vitest';
import type { Project } from '../../../src/model/project.ts';
import type { Observation } from '../../../src/model/state.ts';
import type { ProvisionMode } from '../../../src/plan/provisioning.ts';
import {
  afterHalt,
  afterUp,
  container,
  died,
  edit,
  everyMachine,
  holderDead,
  loadBalancer,
  nothing,
  onlyMade,
  printed,
  project,
  single,
  step,
  text,
  vm,
  withRecord,
} from './fixtures.ts';

const done = { fingerprint: 'f1', doneAt: '2026-01-01T00:00:00Z' };
const rebooted = (wanted: Project): Observation => ({
  ...afterUp(wanted, everyMachine(wanted, died)),
  sandboxAlive: false,
  servicesAlive: false,
});
const up = (wanted: Project, observation: Observation, targets: string[] = [], provision: ProvisionMode = true) =>
  printed({ command: 'up', wanted, observation, targets, options: { provision } });

describe('tsv up', () => {
  test('from nothing: sandbox, networks, boxes, then every machine with what it depends on first', () => {
    expect(up(loadBalancer(), nothing)).toBe(text`
      [1]  sandbox.ensure  (new)
      [2] <- 1  network.ensure default  (new)
      [3] <- 1  network.ensure backend  (new)
      [4]  box.ensure debian-12 container  (needed by web-1 and 3 more)
      [5]  box.ensure debian-12 vm  (needed by db)
      [6] <- 3,4  machine.create web-1  (new)
      [7] <- 6  machine.start web-1  (new)
      [8] <- 7  machine.wait web-1  (started)
      [9] <- 8  machine.provision web-1 nginx  (not done)
      [10] <- 9  machine.healthy web-1  (started)
      [11] <- 3,4  machine.create web-2  (new)
      [12] <- 11  machine.start web-2  (new)
      [13] <- 12  machine.wait web-2  (started)
      [14] <- 13  machine.provision web-2 nginx  (not done)
      [15] <- 14  machine.healthy web-2  (started)
      [16] <- 3,4  machine.create web-3  (new)
      [17] <- 16  machine.start web-3  (new)
      [18] <- 17  machine.wait web-3  (started)
      [19] <- 18  machine.provision web-3 nginx  (not done)
      [20] <- 19  machine.healthy web-3  (started)
      [21] <- 3,5  machine.create db  (new)
      [22] <- 21  machine.start db  (new)
      [23] <- 22  machine.wait db  (started)
      [24] <- 23  machine.provision db packages  (not done)
      [25] <- 24  machine.provision db schema  (not done)
      [26] <- 25  machine.provision db seed  (not done)
      [27] <- 2,3,4  machine.create lb  (new)
      [28] <- 10,15,20,26,27  machine.start lb  (new)
      [29] <- 28  machine.wait lb  (started)
      [30] <- 29  machine.provision lb haproxy  (not done)
    `);
  });

  test('everything is as the file says: an empty plan', () => {
    expect(up(loadBalancer(), afterUp(loadBalancer()))).toBe(text`
      nothing to do
    `);
  });

  test('one container died: only that one is started again', () => {
    expect(up(loadBalancer(), afterUp(loadBalancer(), { 'web-2': died }))).toBe(text`
      [1]  machine.start web-2  (ended unexpectedly)
      [2] <- 1  machine.wait web-2  (started)
      [3] <- 2  machine.healthy web-2  (started)
    `);
  });

  test('the VM died: it is started and not provisioned again', () => {
    expect(up(loadBalancer(), afterUp(loadBalancer(), { db: died }))).toBe(text`
      [1]  machine.start db  (ended unexpectedly)
      [2] <- 1  machine.wait db  (started)
    `);
  });

  test('the holder died: machines without a sandbox are stopped and started in a new one', () => {
    expect(up(loadBalancer(), holderDead(loadBalancer()))).toBe(text`
      [1]  machine.stop lb  (its sandbox is gone)
      [2] <- 1  machine.stop db  (its sandbox is gone)
      [3] <- 1  machine.stop web-3  (its sandbox is gone)
      [4] <- 1  machine.stop web-2  (its sandbox is gone)
      [5] <- 1  machine.stop web-1  (its sandbox is gone)
      [6]  sandbox.ensure  (ended unexpectedly)
      [7] <- 6  network.ensure default  (new sandbox)
      [8] <- 6  network.ensure backend  (new sandbox)
      [9] <- 5,8  machine.start web-1  (its sandbox is gone)
      [10] <- 9  machine.wait web-1  (started)
      [11] <- 10  machine.healthy web-1  (started)
      [12] <- 4,8  machine.start web-2  (its sandbox is gone)
      [13] <- 12  machine.wait web-2  (started)
      [14] <- 13  machine.healthy web-2  (started)
      [15] <- 3,8  machine.start web-3  (its sandbox is gone)
      [16] <- 15  machine.wait web-3  (started)
      [17] <- 16  machine.healthy web-3  (started)
      [18] <- 2,8  machine.start db  (its sandbox is gone)
      [19] <- 18  machine.wait db  (started)
      [20] <- 7,11,14,17,19  machine.start lb  (its sandbox is gone)
      [21] <- 20  machine.wait lb  (started)
    `);
  });

  test('the host was rebooted: all processes are gone at once', () => {
    expect(up(loadBalancer(), rebooted(loadBalancer()))).toBe(text`
      [1]  sandbox.ensure  (ended unexpectedly)
      [2] <- 1  network.ensure default  (new sandbox)
      [3] <- 1  network.ensure backend  (new sandbox)
      [4] <- 3  machine.start web-1  (ended unexpectedly)
      [5] <- 4  machine.wait web-1  (started)
      [6] <- 5  machine.healthy web-1  (started)
      [7] <- 3  machine.start web-2  (ended unexpectedly)
      [8] <- 7  machine.wait web-2  (started)
      [9] <- 8  machine.healthy web-2  (started)
      [10] <- 3  machine.start web-3  (ended unexpectedly)
      [11] <- 10  machine.wait web-3  (started)
      [12] <- 11  machine.healthy web-3  (started)
      [13] <- 3  machine.start db  (ended unexpectedly)
      [14] <- 13  machine.wait db  (started)
      [15] <- 2,6,9,12,14  machine.start lb  (ended unexpectedly)
      [16] <- 15  machine.wait lb  (started)
    `);
  });

  test('dnsmasq died: the sandbox is mended and no machine is touched', () => {
    expect(up(loadBalancer(), { ...afterUp(loadBalancer()), servicesAlive: false })).toBe(text`
      [1]  sandbox.ensure  (DNS or uplink ended)
    `);
  });

  test('after a halt the machines are started, not made', () => {
    expect(up(loadBalancer(), afterHalt(loadBalancer()))).toBe(text`
      [1]  sandbox.ensure  (new)
      [2] <- 1  network.ensure default  (new sandbox)
      [3] <- 1  network.ensure backend  (new sandbox)
      [4] <- 3  machine.start web-1  (not running)
      [5] <- 4  machine.wait web-1  (started)
      [6] <- 5  machine.healthy web-1  (started)
      [7] <- 3  machine.start web-2  (not running)
      [8] <- 7  machine.wait web-2  (started)
      [9] <- 8  machine.healthy web-2  (started)
      [10] <- 3  machine.start web-3  (not running)
      [11] <- 10  machine.wait web-3  (started)
      [12] <- 11  machine.healthy web-3  (started)
      [13] <- 3  machine.start db  (not running)
      [14] <- 13  machine.wait db  (started)
      [15] <- 2,6,9,12,14  machine.start lb  (not running)
      [16] <- 15  machine.wait lb  (started)
    `);
  });

  test('a step failed: the next up resumes there', () => {
    expect(up(loadBalancer(), withRecord(afterUp(loadBalancer()), 'db', { steps: { packages: done } }))).toBe(text`
      [1]  machine.provision db schema  (not done)
      [2] <- 1  machine.provision db seed  (not done)
    `);
  });

  test('a failed step whose dependents were never made: the rest follows', () => {
    expect(
      up(
        loadBalancer(),
        withRecord(onlyMade(afterUp(loadBalancer()), 'web-1', 'web-2', 'web-3', 'db'), 'db', {
          steps: { packages: done },
        }),
      ),
    ).toBe(text`
      [1]  network.ensure default  (no machine runs on it)
      [2]  box.ensure debian-12 container  (needed by lb)
      [3]  machine.healthy web-1  (lb needs it)
      [4]  machine.healthy web-2  (lb needs it)
      [5]  machine.healthy web-3  (lb needs it)
      [6]  machine.provision db schema  (not done)
      [7] <- 6  machine.provision db seed  (not done)
      [8] <- 1,2  machine.create lb  (new)
      [9] <- 3,4,5,7,8  machine.start lb  (new)
      [10] <- 9  machine.wait lb  (started)
      [11] <- 10  machine.provision lb haproxy  (not done)
    `);
  });

  test('a step that runs always runs with every up', () => {
    expect(
      up(
        edit(loadBalancer(), { db: { provision: [step('packages'), step('restart', 'always')] } }),
        afterUp(loadBalancer()),
      ),
    ).toBe(text`
      [1]  machine.provision db restart  (runs always)
    `);
  });

  test('a step that never runs by itself does not run, not even on a new machine', () => {
    expect(up(project([container('web', { provision: [step('reset', 'never'), step('nginx')] })]), nothing)).toBe(text`
      [1]  sandbox.ensure  (new)
      [2] <- 1  network.ensure default  (new)
      [3]  box.ensure debian-12 container  (needed by web)
      [4] <- 2,3  machine.create web  (new)
      [5] <- 4  machine.start web  (new)
      [6] <- 5  machine.wait web  (started)
      [7] <- 6  machine.provision web nginx  (not done)
    `);
  });

  test('a machine that was never reached is waited for', () => {
    expect(up(loadBalancer(), withRecord(afterUp(loadBalancer()), 'web-3', { ready: false, steps: {} }))).toBe(text`
      [1]  machine.wait web-3  (not ready)
      [2] <- 1  machine.provision web-3 nginx  (not done)
      [3] <- 2  machine.healthy web-3  (provisioned)
    `);
  });

  test('a broken machine is stopped and started', () => {
    expect(
      up(loadBalancer(), afterUp(loadBalancer(), { 'web-1': { state: 'broken', reasons: ['its bridge is gone'] } })),
    ).toBe(text`
      [1]  machine.stop web-1  (its bridge is gone)
      [2] <- 1  machine.start web-1  (its bridge is gone)
      [3] <- 2  machine.wait web-1  (started)
      [4] <- 3  machine.healthy web-1  (started)
    `);
  });

  test('a machine whose files are gone is made again', () => {
    expect(up(single, afterUp(single, { db: { state: 'absent' } }))).toBe(text`
      [1]  network.ensure default  (no machine runs on it)
      [2]  box.ensure debian-12 vm  (needed by db)
      [3] <- 1,2  machine.create db  (absent)
      [4] <- 3  machine.start db  (absent)
      [5] <- 4  machine.wait db  (started)
      [6] <- 5  machine.provision db packages  (not done)
    `);
  });

  test('two kinds of one box are two things to get', () => {
    expect(up(project([container('a'), vm('b'), container('c')]), nothing)).toBe(text`
      [1]  sandbox.ensure  (new)
      [2] <- 1  network.ensure default  (new)
      [3]  box.ensure debian-12 container  (needed by a and 1 more)
      [4]  box.ensure debian-12 vm  (needed by b)
      [5] <- 2,3  machine.create a  (new)
      [6] <- 5  machine.start a  (new)
      [7] <- 6  machine.wait a  (started)
      [8] <- 2,4  machine.create b  (new)
      [9] <- 8  machine.start b  (new)
      [10] <- 9  machine.wait b  (started)
      [11] <- 2,3  machine.create c  (new)
      [12] <- 11  machine.start c  (new)
      [13] <- 12  machine.wait c  (started)
    `);
  });
});
