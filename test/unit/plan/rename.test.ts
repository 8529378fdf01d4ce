import { describe, expect, test } from 'vitest';
import type { Machine, Project } from '../../../src/model/project.ts';
import type { Observation } from '../../../src/model/state.ts';
import { reconcile } from '../../../src/plan/reconcile.ts';
import { afterUp, alive, container, ended, nothing, printed, project, stopped, text, vm } from './fixtures.ts';

const replica = (index: number): Machine => container(`web-${index}`, { group: 'web' });
const before = project([container('db'), replica(1), replica(2)]);
const renamed = (from: string, to: Machine): Project =>
  project(before.machines.map((machine) => (machine.name === from ? to : machine)));

const rename = (from: string, to: string, wanted: Project, observation: Observation) =>
  ({ command: 'rename', wanted, observation, from, to }) as const;
const refusal = (...request: Parameters<typeof rename>): unknown => {
  try {
    return reconcile(rename(...request));
  } catch (error) {
    return error;
  }
};

describe('tsv rename', () => {
  const store = renamed('db', container('store'));
  const halted = afterUp(before, { db: stopped });

  test('is one step', () => {
    expect(printed(rename('db', 'store', store, halted))).toBe(text`
      [1]  machine.rename db to store  (renamed in the Tsfile)
    `);
    expect(printed(rename('db', 'store', store, afterUp(before, { db: ended(3) })))).toMatch(/^\[1\]/);
    const web3 = renamed('web-2', replica(3));
    expect(printed(rename('web-2', 'web-3', web3, afterUp(before, { 'web-2': stopped })))).toMatch(/web-2 to web-3/);
  });

  test('needs a Tsfile that has the new name, and not the old one any more', () => {
    expect(refusal('db', 'store', before, halted)).toMatchObject({
      code: 'TSV_USAGE',
      details: ['store is not in it', 'db is still in it', 'its machines: db, web-1, web-2'],
      hint: expect.stringMatching(/write store for db in \/shop\/Tsfile.yaml.*tsv rename db store/),
    });
    const both = project([...before.machines, container('store')]);
    expect(refusal('db', 'store', both, halted)).toMatchObject({
      details: ['db is still in it', expect.stringContaining('db, web-1, web-2, store')],
    });
    // A group is no machine.
    expect(refusal('db', 'web', renamed('db', replica(3)), halted)).toMatchObject({
      details: ['web is not in it', expect.anything()],
    });
  });

  test('is refused while the machine runs, or what it is in runs', () => {
    expect(refusal('db', 'store', store, afterUp(before, { db: alive }))).toMatchObject({
      code: 'TSV_USAGE',
      message: 'db is running, and what runs keeps its name',
      hint: expect.stringMatching(/^tsv halt db,/),
    });
    const broken = afterUp(before, { db: { state: 'broken', reasons: ['its sandbox is gone'] } });
    expect(refusal('db', 'store', store, broken)).toMatchObject({ code: 'TSV_USAGE' });
  });

  test('is refused where the next up would make the machine anew, or another one has the name', () => {
    expect(refusal('db', 'store', renamed('db', vm('store')), halted)).toMatchObject({
      code: 'TSV_USAGE',
      message: 'store in the Tsfile is another machine than db: kind changed',
    });
    const gone = project(before.machines.slice(1));
    expect(refusal('db', 'web-1', gone, halted)).toMatchObject({ message: 'web-1 exists already' });
    expect(refusal('db', 'db', before, halted)).toMatchObject({ message: 'db is its name already' });
  });

  test('knows machines, and says what else there is', () => {
    expect(refusal('dbs', 'store', store, halted)).toMatchObject({
      code: 'TSV_UNKNOWN_MACHINE',
      details: ['its machines: db, web, web-1, web-2'],
    });
    expect(refusal('web', 'front', store, halted)).toMatchObject({
      code: 'TSV_UNKNOWN_MACHINE',
      message: 'web is 2 machines: web-1, web-2',
    });
    expect(refusal('store', 'other', store, halted)).toMatchObject({ code: 'TSV_NOT_RUNNING' });
    expect(refusal('db', 'store', store, nothing)).toMatchObject({ code: 'TSV_UNKNOWN_MACHINE' });
  });
});
