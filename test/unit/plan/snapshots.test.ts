import { describe, expect, test } from 'vitest';
import type { SavedMachine, Snapshot } from '../../../src/model/snapshot.ts';
import type { Observation } from '../../../src/model/state.ts';
import { type ReconcileRequest, reconcile } from '../../../src/plan/reconcile.ts';
import { afterHalt, afterUp, container, edit, nothing, printed, project, text, vm, withRecord } from './fixtures.ts';

const shop = project([
  container('web', { dependsOn: [{ machine: 'db', condition: 'started' }] }),
  vm('db'),
  container('tools', { networks: [] }),
]);

function saved(observation: Observation, name: string, part: Partial<SavedMachine> = {}): SavedMachine {
  const record = observation.state?.machines[name];
  if (record === undefined) throw new Error(`no record of ${name}`);
  const { spec, boxDigest, addresses, steps } = record;
  const memory = spec.kind === 'vm';
  return {
    ...{ tag: 'tsv-1', was: 'running', memory, bytes: 1, without: [], provider: {} },
    ...{ spec, boxDigest, addresses, steps },
    ...part,
  };
}

const snapshot = (name: string, machines: Record<string, SavedMachine>): Snapshot => ({
  version: 1,
  name,
  at: '2026-01-01T00:00:00.000Z',
  machines,
});

function having(before: Observation, parts: Record<string, Partial<SavedMachine>>): Observation {
  const machines = Object.entries(parts).map(([name, part]) => [name, saved(before, name, part)]);
  return { ...before, snapshots: [snapshot('first', Object.fromEntries(machines))] };
}

const save = (observation: Observation, name: string, targets: string[] = [], more: object = {}): ReconcileRequest => ({
  ...{ command: 'snapshot save', observation, name, targets, replace: false, pushed: false },
  ...more,
});
const restore = (observation: Observation, targets: string[] = [], disksOnly = false): ReconcileRequest => ({
  ...{ command: 'snapshot restore', observation, name: 'first', targets, drop: false, disksOnly },
});
const refusal = (request: ReconcileRequest): unknown => {
  try {
    return reconcile(request);
  } catch (error) {
    return error;
  }
};

describe('tsv snapshot save', () => {
  test('is one step for all machines, so that they are saved at one moment', () => {
    expect(printed(save(afterUp(shop), 'first'))).toBe('[1]  snapshot.save first web db tools  (save)');
    expect(printed(save(afterUp(shop), 'first', ['db']))).toBe('[1]  snapshot.save first db  (save)');
  });

  test('refuses names that are taken, reserved, or lead anywhere', () => {
    const observation = having(afterUp(shop), { db: {} });
    expect(refusal(save(observation, 'first'))).toMatchObject({
      code: 'TSV_USAGE',
      hint: expect.stringMatching(/--force first/),
    });
    expect(printed(save(observation, 'first', [], { replace: true }))).toMatch(/^\[1\]/);
    for (const name of ['../x', '.x', '', 'a b', 'x'.repeat(64), 'push-1', 'db'])
      expect(refusal(save(observation, name)), name).toMatchObject({ code: 'TSV_USAGE' });
    expect(refusal(save(observation, 'db'))).toMatchObject({
      hint: expect.stringContaining('tsv snapshot save NAME db'),
    });
    expect(refusal(save(observation, 'second', ['dbs']))).toMatchObject({ code: 'TSV_UNKNOWN_MACHINE' });
    expect(refusal(save(nothing, 'second'))).toMatchObject({ code: 'TSV_NOT_RUNNING' });
  });

  test('is refused for a machine that is half set back', () => {
    const half = withRecord(afterUp(shop), 'db', { restoring: 'first' });
    expect(refusal(save(half, 'second'))).toMatchObject({
      code: 'TSV_SNAPSHOT',
      hint: 'tsv snapshot restore first db',
    });
  });
});

describe('tsv snapshot restore', () => {
  test('sets all back together; memory goes on, containers start after what they depend on', () => {
    expect(printed(restore(having(afterUp(shop), { web: {}, db: {} })))).toBe(text`
      [1]  snapshot.restore first db web  (as of 2026-01-01T00:00:00.000Z)
      [2] <- 1  machine.wait db  (it ran then)
      [3] <- 2  machine.start web  (it ran then)
      [4] <- 3  machine.wait web  (it ran then)
    `);
  });

  test('leaves virtual machines halted that are to be without their memory', () => {
    expect(printed(restore(having(afterUp(shop), { web: {}, db: {} }), [], true))).toBe(text`
      [1]  snapshot.restore first db web  (as of 2026-01-01T00:00:00.000Z)
      [2] <- 1  machine.start web  (it ran then)
      [3] <- 2  machine.wait web  (it ran then)
    `);
  });

  test('makes the sandbox and the networks where nothing runs, and leaves alone what did not run', () => {
    const halted = afterHalt(shop);
    expect(printed(restore(having(halted, { db: {}, web: { was: 'stopped' } })))).toBe(text`
      [1]  sandbox.ensure  (new)
      [2] <- 1  network.ensure default  (machines run on it)
      [3] <- 2  snapshot.restore first db web  (as of 2026-01-01T00:00:00.000Z)
      [4] <- 3  machine.wait db  (it ran then)
    `);
    expect(printed(restore(having(halted, { db: { was: 'stopped', memory: false } })))).toMatch(
      /^\[1\] {2}snapshot.*$/,
    );
  });

  test('is refused as a whole, with all reasons, when a machine cannot become what it was', () => {
    const before = having(afterUp(shop), {
      web: { boxDigest: 'another' },
      db: { spec: container('db') },
      tools: { addresses: [{ network: 'gone', address: '10.0.0.2', mac: '', device: 'eth0' }] },
    });
    expect(refusal(restore(before))).toMatchObject({
      code: 'TSV_SNAPSHOT',
      details: [
        'web is made from another box now',
        'db is a vm now',
        'tools was on the network gone, which is not there any more',
      ],
    });
    const volumes = [{ name: 'data', guest: '/data', readonly: false }];
    expect(refusal(restore(having(afterUp(shop), { web: { spec: container('web', { volumes }) } })))).toMatchObject({
      details: ['web had the volume data, which is not there any more'],
    });
    const at = (address: string) => ({ addresses: [{ network: 'default', address, mac: '', device: 'eth0' }] });
    const taken = having(withRecord(afterUp(shop), 'tools', at('10.88.0.2')), {
      web: at('10.88.0.2'),
      db: at('10.99.0.2'),
    });
    expect(refusal(restore(taken))).toMatchObject({
      details: [
        'web had the address 10.88.0.2, which tools has now',
        'db had the address 10.99.0.2, and default is 10.88.0.0/24 now',
      ],
    });
    expect(refusal(restore(having(afterUp(shop), { db: {} }), ['web']))).toMatchObject({ code: 'TSV_UNKNOWN_MACHINE' });
    expect(refusal(restore(afterUp(shop)))).toMatchObject({ code: 'TSV_USAGE', details: ['it has none at all'] });
  });
});

test('a machine that has snapshots is not made anew by up: they would be lost unsaid', () => {
  const observation = having(afterUp(shop), { db: {} });
  const wanted = edit(shop, { db: { box: 'other' } });
  expect(refusal({ command: 'up', wanted, observation })).toMatchObject({
    code: 'TSV_IN_USE',
    hint: expect.stringMatching(/tsv snapshot delete first/),
  });
  expect(printed({ command: 'up', wanted, observation: { ...observation, snapshots: [] } })).toMatch(
    /machine.destroy db/,
  );
});
