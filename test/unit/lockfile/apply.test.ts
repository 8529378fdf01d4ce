import { describe, expect, test } from 'vitest';
import { applyLock, describeChange, lockChanges, nextLock } from '../../../src/lockfile/apply.ts';
import type { LockEntry, LockFile } from '../../../src/lockfile/format.ts';
import type { Machine, Project } from '../../../src/model/project.ts';

const nginx = 'docker.io/library/nginx:1.27';
const redis = 'docker.io/library/redis:7';
const entry = (letter: string, more: Partial<LockEntry> = {}): LockEntry => ({
  digest: `sha256:${letter.repeat(64)}`,
  date: '2026-01-02T03:04:05Z',
  source: 'docker.io',
  ...more,
});
const lock = (images: LockFile['images'], boxes: LockFile['boxes'] = {}): LockFile => ({ boxes, images });
const machine = (name: string, box: string, isImage = true): Machine =>
  ({ name, box, kind: 'container', ...(isImage ? { image: {} } : {}) }) as unknown as Machine;
const project = (...machines: Machine[]): Project => ({ name: 'p', machines }) as unknown as Project;

describe('a lock file', () => {
  test('gives the machines of images their digests, and boxes none', () => {
    const given = project(machine('a', nginx), machine('b', redis), machine('c', 'debian-12', false));
    const pinned = applyLock(given, lock({ [nginx]: entry('a') }, { 'debian-12': entry('d') }));
    expect(pinned.machines.map(({ image }) => image)).toEqual([{ digest: entry('a').digest }, {}, undefined]);
    expect(applyLock(given, undefined)).toBe(given);
  });

  test('keeps what it has, takes what is resolved, and drops what no machine uses', () => {
    const machines = [machine('a', nginx), machine('b', redis), machine('c', 'debian-12', false)];
    const before = lock({ [nginx]: entry('a'), 'docker.io/library/gone:1': entry('f') }, { gone: entry('f') });
    const next = nextLock(machines, before, lock({ [redis]: entry('b') }, { 'debian-12': entry('d') }));
    expect(next).toEqual(lock({ [nginx]: entry('a'), [redis]: entry('b') }, { 'debian-12': entry('d') }));
    expect(nextLock(machines, before, lock({ [nginx]: entry('c') })).images[nginx]).toEqual(entry('c'));
    // Resolved again to the same: no other date, so that the file does not change.
    const again = lock({ [nginx]: entry('a', { date: 'later' }) }, { 'debian-12': entry('d', { date: 'later' }) });
    expect(nextLock(machines, next, again)).toEqual(next);
  });

  test('has no entry for what could not be resolved yet', () => {
    expect(nextLock([machine('a', nginx)], undefined, lock({}))).toEqual(lock({}));
  });

  test('differs by digests, not by how an entry came to be', () => {
    const before = lock({ [nginx]: entry('a', { version: '1.27.3' }), [redis]: entry('b') });
    const after = lock({ [nginx]: entry('c'), [redis]: entry('b', { date: 'later', size: 7 }) }, { box: entry('d') });
    const changes = lockChanges(before, after);
    expect(changes.map(describeChange)).toEqual([
      `box box: sha256:dddddddddddd…`,
      'nginx:1.27: 1.27.3 sha256:aaaaaaaaaaaa… -> sha256:cccccccccccc…',
    ]);
    expect(lockChanges(before, lock({})).map(describeChange)).toEqual([
      'nginx:1.27: no longer used',
      'redis:7: no longer used',
    ]);
    expect(lockChanges(undefined, lock({}))).toEqual([]);
  });

  test('is described whatever names somebody wrote into it', () => {
    expect(lockChanges(lock({ 'No Reference': entry('a') }), lock({})).map(describeChange)).toEqual([
      'No Reference: no longer used',
    ]);
  });
});
