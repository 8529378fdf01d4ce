import { describe, expect, test } from 'vitest';
import type { Project } from '../../../src/model/project.ts';
import type { Observation } from '../../../src/model/state.ts';
import { reconcile } from '../../../src/plan/reconcile.ts';
import {
  afterUp,
  alive,
  container,
  edit,
  ended,
  GiB,
  nothing,
  onlyMade,
  printed,
  project,
  step,
  stopped,
  text,
  vm,
  withRecord,
} from './fixtures.ts';

const disk = { name: 'data', sizeBytes: 2 * GiB };
const provision = [step('once')];
const before = project([
  container('web', { provision }),
  container('copy', { provision, memoryBytes: GiB, cpus: 3, networks: [{ network: 'other' }], forwards: [] }),
  vm('db', { disks: [disk] }),
  vm('db-2', { disks: [disk] }),
]);
const halted = onlyMade(afterUp(before, { web: stopped, db: stopped }), 'web', 'db');

const clone = (from: string, to: string, wanted: Project = before, observation: Observation = halted) =>
  ({ command: 'clone', wanted, observation, from, to }) as const;
const refusal = (...request: Parameters<typeof clone>): unknown => {
  try {
    return reconcile(clone(...request));
  } catch (error) {
    return error;
  }
};

describe('tsv clone', () => {
  test('is one step, whatever the copy has of its own', () => {
    expect(printed(clone('web', 'copy'))).toBe(text`
      [1]  machine.clone copy from web  (a copy of web)
    `);
    expect(printed(clone('db', 'db-2'))).toMatch(/machine.clone db-2 from db/);
    const died = onlyMade(afterUp(before, { web: ended(3) }), 'web');
    expect(printed(clone('web', 'copy', before, died))).toMatch(/^\[1\]/);
  });

  test('needs a copy that stands in the Tsfile and is not made yet', () => {
    expect(refusal('web', 'other')).toMatchObject({
      code: 'TSV_USAGE',
      message: 'other is not in the Tsfile',
      hint: expect.stringMatching(/write other beside web in \/shop\/Tsfile.yaml.*tsv clone web other/),
    });
    expect(refusal('web', 'db')).toMatchObject({ code: 'TSV_USAGE', message: 'db exists already' });
    expect(refusal('web', 'web')).toMatchObject({ code: 'TSV_USAGE' });
  });

  test('is refused where the next up would make the copy anew, or could not start it', () => {
    const differs = (from: string, to: string, change: object) => refusal(from, to, edit(before, { [to]: change }));
    expect(differs('web', 'copy', { kind: 'vm' })).toMatchObject({
      code: 'TSV_USAGE',
      message: 'copy in the Tsfile cannot be a copy of web: kind changed',
    });
    expect(differs('web', 'copy', { box: 'other' })).toMatchObject({
      message: expect.stringMatching(/: box changed$/),
    });
    expect(differs('web', 'copy', { image: { digest: 'sha256:other' } })).toMatchObject({
      message: expect.stringMatching(/: image updated$/),
    });
    expect(differs('db', 'db-2', { disks: [] })).toMatchObject({
      message: expect.stringMatching(/disk data removed$/),
    });
    const half = { ...disk, sizeBytes: GiB };
    expect(differs('db', 'db-2', { disks: [half] })).toMatchObject({ message: expect.stringMatching(/data shrunk$/) });
    const withDisk = withRecord(halted, 'web', { spec: container('web', { disks: [disk] }) });
    expect(refusal('web', 'copy', edit(before, { copy: { disks: [half] } }), withDisk)).toMatchObject({
      message: expect.stringMatching(/data shrunk$/),
    });
  });

  test('is refused while the machine runs, is suspended, or is half set back', () => {
    const of = (observation: Observation) => refusal('db', 'db-2', before, onlyMade(observation, 'web', 'db'));
    expect(of(afterUp(before, { db: alive }))).toMatchObject({
      code: 'TSV_USAGE',
      message: 'db is running, and what runs is not copied',
      hint: expect.stringMatching(/^tsv halt db,/),
    });
    expect(of(afterUp(before, { db: { state: 'broken', reasons: ['its sandbox is gone'] } }))).toMatchObject({
      code: 'TSV_USAGE',
    });
    const suspended = { at: '2026-01-01T00:00:00Z', memory: true, provider: {} };
    expect(of(withRecord(halted, 'db', { suspended }))).toMatchObject({
      code: 'TSV_USAGE',
      message: expect.stringMatching(/^db is suspended/),
      hint: expect.stringMatching(/tsv resume db && tsv halt db/),
    });
    // One that suspend has only halted is as a halt leaves it.
    expect(of(withRecord(halted, 'db', { suspended: { ...suspended, memory: false } }))).toHaveProperty('nodes');
    expect(of(withRecord(halted, 'db', { restoring: 'monday' }))).toMatchObject({ code: 'TSV_SNAPSHOT' });
  });

  test('knows machines, and says what else there is', () => {
    expect(refusal('wep', 'copy')).toMatchObject({ code: 'TSV_UNKNOWN_MACHINE' });
    expect(refusal('copy', 'db-2')).toMatchObject({
      code: 'TSV_NOT_RUNNING',
      message: 'copy does not exist yet',
      hint: 'tsv up copy',
    });
    expect(refusal('web', 'copy', before, nothing)).toMatchObject({ code: 'TSV_NOT_RUNNING' });
  });
});
