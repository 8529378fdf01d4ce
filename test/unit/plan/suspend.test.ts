import { describe, expect, test } from 'vitest';
import type { Observation } from '../../../src/model/state.ts';
import { type ReconcileRequest, reconcile } from '../../../src/plan/reconcile.ts';
import { afterHalt, afterUp, container, edit, printed, project, stopped, text, vm, withRecord } from './fixtures.ts';

const shop = project([
  container('web', { dependsOn: [{ machine: 'db', condition: 'started' }] }),
  vm('db'),
  vm('mail'),
]);
const request = (
  command: 'suspend' | 'resume',
  observation: Observation,
  targets: string[] = [],
): ReconcileRequest => ({
  command,
  observation,
  targets,
});
const refusal = (...args: Parameters<typeof request>): unknown => {
  try {
    return reconcile(request(...args));
  } catch (error) {
    return error;
  }
};
const asleep = (before: Observation, name: string, memory: boolean): Observation =>
  withRecord(before, name, { suspended: { at: '2026-01-01T00:00:00.000Z', memory, provider: {} } });

describe('tsv suspend', () => {
  test('takes dependents first, halts containers, and the sandbox goes with the last machine', () => {
    expect(printed(request('suspend', afterUp(shop)))).toBe(text`
      [1]  machine.suspend mail  (suspend)
      [2]  machine.suspend web  (a container: it is halted)
      [3] <- 2  machine.suspend db  (suspend)
      [4] <- 1,3  sandbox.remove  (last machine)
    `);
    expect(printed(request('suspend', afterUp(shop), ['db']))).toBe('[1]  machine.suspend db  (suspend)');
    expect(printed(request('suspend', afterHalt(shop)))).toBe('nothing to do');
  });

  test('refuses a container that is named', () => {
    expect(refusal('suspend', afterUp(shop), ['db', 'web'])).toMatchObject({
      code: 'TSV_UNSUPPORTED',
      hint: expect.stringMatching(/^tsv pause web/),
    });
  });
});

describe('a suspended machine', () => {
  const halted = asleep(asleep(afterHalt(shop), 'db', true), 'web', false);

  test('goes on by resume, with containers that were halted for it, and nothing else', () => {
    expect(printed(request('resume', halted))).toBe(text`
      [1]  sandbox.ensure  (new)
      [2] <- 1  network.ensure default  (new sandbox)
      [3] <- 2  machine.resume db  (suspended)
      [4] <- 3  machine.wait db  (started)
      [5] <- 4  machine.start web  (not running)
      [6] <- 5  machine.wait web  (started)
    `);
    expect(printed(request('resume', afterHalt(shop)))).toBe('nothing to do');
    expect(refusal('resume', halted, ['mail'])).toMatchObject({ code: 'TSV_USAGE', hint: 'tsv up mail' });
  });

  test('goes on by up and reload as it was, also where the Tsfile says something else', () => {
    const wanted = edit(shop, { db: { memoryBytes: 2 ** 30 } });
    for (const command of ['up', 'reload'] as const)
      expect(printed({ command, wanted, observation: halted, targets: ['db'] })).toMatch(
        /machine\.resume db {2}\(suspended\)/,
      );
  });

  test('loses its memory by halt', () => {
    const one = asleep(afterUp(shop, { db: stopped }), 'db', true);
    expect(printed({ command: 'halt', wanted: undefined, observation: one, targets: ['db'] })).toBe(
      '[1]  machine.stop db  (suspended)',
    );
  });

  test('cannot be saved', () => {
    const save = { command: 'snapshot save', name: 'first', targets: [], replace: false, pushed: false } as const;
    expect(() => reconcile({ ...save, observation: halted })).toThrow(/db is suspended/);
  });
});
