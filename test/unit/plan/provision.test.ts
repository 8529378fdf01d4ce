import { describe, expect, test } from 'vitest';
import type { Project } from '../../../src/model/project.ts';
import type { Observation } from '../../../src/model/state.ts';
import {
  afterHalt,
  afterUp,
  container,
  died,
  edit,
  loadBalancer,
  printed,
  project,
  single,
  step,
  stopped,
  text,
  withRecord,
} from './fixtures.ts';

const provision = (wanted: Project, observation: Observation, targets: string[] = [], only?: string) =>
  printed({ command: 'provision', wanted, observation, targets, options: only === undefined ? {} : { only } });

describe('tsv provision', () => {
  test('all steps of all machines, dependencies first', () => {
    expect(provision(loadBalancer(), afterUp(loadBalancer()))).toBe(text`
      [1]  machine.provision web-1 nginx  (asked for)
      [2] <- 1  machine.healthy web-1  (provisioned)
      [3]  machine.provision web-2 nginx  (asked for)
      [4] <- 3  machine.healthy web-2  (provisioned)
      [5]  machine.provision web-3 nginx  (asked for)
      [6] <- 5  machine.healthy web-3  (provisioned)
      [7]  machine.provision db packages  (asked for)
      [8] <- 7  machine.provision db schema  (asked for)
      [9] <- 8  machine.provision db seed  (asked for)
      [10] <- 2,4,6,9  machine.provision lb haproxy  (asked for)
    `);
  });

  test('--only runs one step of the machines that have it', () => {
    expect(provision(loadBalancer(), afterUp(loadBalancer()), [], 'nginx')).toBe(text`
      [1]  machine.provision web-1 nginx  (asked for)
      [2] <- 1  machine.healthy web-1  (provisioned)
      [3]  machine.provision web-2 nginx  (asked for)
      [4] <- 3  machine.healthy web-2  (provisioned)
      [5]  machine.provision web-3 nginx  (asked for)
      [6] <- 5  machine.healthy web-3  (provisioned)
    `);
  });

  test('one machine, one step', () => {
    expect(provision(loadBalancer(), afterUp(loadBalancer()), ['db'], 'schema')).toBe(text`
      [1]  machine.provision db schema  (asked for)
    `);
  });

  test('a step that never runs by itself runs when asked for', () => {
    expect(provision(edit(single, { db: { provision: [step('reset', 'never')] } }), afterUp(single))).toBe(text`
      [1]  machine.provision db reset  (asked for)
    `);
  });

  test('machines that do not run are left out when none is named', () => {
    expect(provision(loadBalancer(), afterUp(loadBalancer(), { 'web-1': stopped, lb: died }))).toBe(text`
      [1]  machine.provision web-2 nginx  (asked for)
      [2] <- 1  machine.healthy web-2  (provisioned)
      [3]  machine.provision web-3 nginx  (asked for)
      [4] <- 3  machine.healthy web-3  (provisioned)
      [5]  machine.provision db packages  (asked for)
      [6] <- 5  machine.provision db schema  (asked for)
      [7] <- 6  machine.provision db seed  (asked for)
    `);
  });

  test('a machine that was never reached is waited for first', () => {
    expect(provision(single, withRecord(afterUp(single), 'db', { ready: false }))).toBe(text`
      [1]  machine.wait db  (not ready)
      [2] <- 1  machine.provision db packages  (asked for)
    `);
  });

  test('a machine without steps: nothing to do', () => {
    expect(provision(project([container('a')]), afterUp(project([container('a')])))).toBe(text`
      nothing to do
    `);
  });

  test('a named machine that does not run is an error that says how to start it', () => {
    expect(() => provision(loadBalancer(), afterUp(loadBalancer(), { 'web-1': stopped }), ['web-1', 'web-2'])).toThrow(
      expect.objectContaining({ code: 'TSV_NOT_RUNNING', message: 'not running: web-1', hint: 'tsv up web-1' }),
    );
  });

  test('a project in which nothing runs is an error that says how to start it', () => {
    expect(() => provision(single, afterHalt(single))).toThrow(
      expect.objectContaining({ code: 'TSV_NOT_RUNNING', message: 'not running: db', hint: 'tsv up' }),
    );
  });

  test('--only with a name that no step has is refused with the names that exist', () => {
    expect(() => provision(loadBalancer(), afterUp(loadBalancer()), ['db'], 'nginx')).toThrow(
      expect.objectContaining({ code: 'TSV_USAGE', details: ['steps: packages, schema, seed'] }),
    );
  });
});
