import { describe, expect, test } from 'vitest';
import { wordsOf } from '../../../src/cli/render/words.ts';
import type { Disk, Machine } from '../../../src/model/project.ts';
import type { Observation } from '../../../src/model/state.ts';
import { describeAction } from '../../../src/plan/print.ts';
import { reconcile } from '../../../src/plan/reconcile.ts';
import { afterUp, container, GiB, printed, project, stopped, vm } from './fixtures.ts';

const data: Disk = { name: 'data', sizeBytes: GiB, mount: '/data' };
const db = (disks: readonly Disk[], fields: Partial<Machine> = {}) =>
  project([container('db', { disks, networks: [], ...fields })]);
const up = (wanted: ReturnType<typeof db>, observation: Observation) => printed({ command: 'up', wanted, observation });
const refusal = (wanted: ReturnType<typeof db>, observation: Observation): unknown => {
  try {
    reconcile({ command: 'up', wanted, observation });
  } catch (error) {
    return error;
  }
  return undefined;
};

describe("a container's disks in a plan", () => {
  test('that are as they were are no reason for anything', () => {
    expect(up(db([data]), afterUp(db([data])))).toBe('nothing to do');
    expect(up(db([{ ...data, keep: false }]), afterUp(db([data])))).toBe('nothing to do');
  });

  test('that changed need a restart, and the plan says what becomes of each', () => {
    const before = [data, { ...data, name: 'log' }, { ...data, name: 'old' }, { ...data, name: 'mine', keep: true }];
    const after = [
      { ...data, sizeBytes: 1.5 * GiB },
      { ...data, name: 'log', mount: '/log', keep: true },
      { ...data, name: 'new' },
      { ...data, name: 'mine' },
    ];
    const cause = [
      'memory changed',
      'disk data grows to 1536M',
      'disk log moves to /log',
      'disk log is kept by destroy',
      'disk new is new',
      'disk mine is no longer kept by destroy',
      'disk old is no longer in the Tsfile',
    ].join(', ');
    expect(up(db(after, { memoryBytes: GiB }), afterUp(db(before)))).toBe(
      [
        `[1]  machine.stop db  (${cause})`,
        `[2] <- 1  machine.start db  (${cause})`,
        '[3] <- 2  machine.wait db  (started)',
      ].join('\n'),
    );
  });

  test('that changed while it was stopped are told, too', () => {
    expect(up(db([{ ...data, sizeBytes: 2 * GiB }]), afterUp(db([data]), { db: stopped }))).toContain(
      'machine.start db  (not running, disk data grows to 2G)',
    );
  });

  test('stay when the container is made anew', () => {
    const plan = up(db([data], { box: 'debian-13' }), afterUp(db([data])));
    expect(plan).toContain('machine.destroy db (keeps disks)  (box changed)');
    const images = { image: {}, box: 'docker.io/library/postgres:15' };
    const other = { image: {}, box: 'docker.io/library/postgres:16' };
    expect(up(db([data], other), afterUp(db([data], images)))).toContain(
      'machine.destroy db (keeps volumes and disks)  (image changed)',
    );
    const action = { do: 'machine.destroy', machine: 'db', keep: 'volumes and disks' } as const;
    expect(describeAction(action)).toBe('destroy db, but for its volumes and disks');
    expect(wordsOf(action)).toMatchObject({ did: 'destroyed, volumes and disks kept' });
  });

  test('go with a container that becomes a VM, as those of a VM do', () => {
    const asVm = project([vm('db', { networks: [] })]);
    expect(up(asVm, afterUp(db([data])))).toContain('machine.destroy db  (kind changed)');
  });

  test('cannot become smaller: nothing is done, and all of them are named', () => {
    const two = [data, { ...data, name: 'log', sizeBytes: 2 * GiB }];
    const smaller = two.map((disk) => ({ ...disk, sizeBytes: GiB / 2 }));
    expect(refusal(db(smaller), afterUp(db(two)))).toMatchObject({
      code: 'TSV_UNSUPPORTED',
      details: ['db: disk data has 1G, and the Tsfile says 512M', 'db: disk log has 2G, and the Tsfile says 512M'],
    });
    expect(refusal(db(smaller, { box: 'debian-13' }), afterUp(db(two)))).toMatchObject({ code: 'TSV_UNSUPPORTED' });
    expect(refusal(db(smaller), afterUp(project([])))).toBeUndefined();
  });
});
