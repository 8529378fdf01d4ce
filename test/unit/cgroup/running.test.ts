import { beforeEach, describe, expect, test } from 'vitest';
import { freeze, isFrozen, thaw } from '../../../src/cgroup/freeze.ts';
import type { Cgroup } from '../../../src/cgroup/place.ts';
import { cgroupProcesses } from '../../../src/cgroup/processes.ts';
import { removeCgroup } from '../../../src/cgroup/remove.ts';
import { errno, FakeKernel } from './kernel.ts';

/* What is done with a cgroup while a container runs in it, against a kernel that answers late. */

const member = (version: 1 | 2, name: string, controllers: readonly string[] = [name]) => ({
  version,
  name,
  controllers,
  mountPoint: `/c/${name}`,
  base: `/c/${name}`,
  folder: `/c/${name}/tsv/web`,
});
let kernel: FakeKernel;
let v1: Cgroup;
let v2: Cgroup;
beforeEach(() => {
  kernel = new FakeKernel().hierarchy(1, '/c/freezer', ['freezer']).hierarchy(2, '/c/v2', []);
  v1 = { explicit: false, members: [member(1, 'freezer')] };
  v2 = { explicit: false, members: [member(2, 'v2', [])] };
  for (const { members } of [v1, v2])
    for (const { base, folder } of members) {
      kernel.makeFolder(`${base}/tsv`);
      kernel.makeFolder(folder);
    }
});
const state = '/c/freezer/tsv/web/freezer.state';
const events = '/c/v2/tsv/web/cgroup.events';

describe('freezing in v1', () => {
  test('is asked for again until all stand still', async () => {
    let asked = 0;
    kernel.onWrite = (file, value) => (file === state && value === 'FROZEN' && ++asked < 120 ? 'FREEZING' : undefined);
    await freeze(v1, {}, kernel);
    expect(asked).toBe(120);
    expect(
      kernel.log.filter((line) => line.endsWith('THAWED')),
      'now and then all run for a moment',
    ).toHaveLength(2);
  });

  test('that takes too long is taken back', async () => {
    kernel.onWrite = (_, value) => (value === 'FROZEN' ? 'FREEZING' : undefined);
    await expect(freeze(v1, { timeoutMs: 5 }, kernel)).rejects.toMatchObject({ code: 'TSV_CGROUP' });
    expect(kernel.read(state)).toBe('THAWED\n');
  });

  test('does not count when it was a cgroup above that was frozen', () => {
    kernel.file(state, 'FROZEN').file('/c/freezer/tsv/web/freezer.self_freezing', '0');
    expect(isFrozen(v1, kernel)).toBe(false);
    kernel.file('/c/freezer/tsv/web/freezer.self_freezing', '1');
    expect(isFrozen(v1, kernel)).toBe(true);
    kernel.removeFolder('/c/freezer/tsv/web');
    expect(isFrozen(v1, kernel), 'gone').toBe(false);
  });
});

describe('freezing in v2', () => {
  test('is over when the kernel says so', async () => {
    const done = freeze(v2, {}, kernel);
    expect(kernel.log).toEqual(['/c/v2/tsv/web/cgroup.freeze = 1']);
    kernel.file(events, 'populated 1\nfrozen 0');
    kernel.file(events, 'populated 1\nfrozen 1');
    await done;
    expect(isFrozen(v2, kernel)).toBe(true);
    thaw(v2, kernel);
    expect(isFrozen(v2, kernel)).toBe(false);
  });

  test('that takes too long is taken back', async () => {
    await expect(freeze(v2, { timeoutMs: 5 }, kernel)).rejects.toMatchObject({ code: 'TSV_CGROUP' });
    expect(kernel.log.at(-1)).toBe('/c/v2/tsv/web/cgroup.freeze = 0');
  });

  test('needs a kernel that can', async () => {
    kernel.without('/c/v2/tsv/web/cgroup.freeze');
    await expect(freeze(v2, {}, kernel)).rejects.toMatchObject({
      details: [expect.stringContaining('older than 5.2')],
    });
    await expect(freeze({ ...v2, members: [] }, {}, kernel)).rejects.toMatchObject({ code: 'TSV_CGROUP' });
  });
});

describe('removing', () => {
  test('takes what the container made in it, and leaves the parents unless asked', async () => {
    kernel.makeFolder('/c/v2/tsv/web/a');
    kernel.makeFolder('/c/v2/tsv/web/a/b');
    await removeCgroup(v2, {}, kernel);
    expect(kernel.folders().filter((folder) => folder.startsWith('/c/v2'))).toEqual(['/c/v2', '/c/v2/tsv']);
    await removeCgroup(v2, { parents: true }, kernel);
    expect(kernel.exists('/c/v2/tsv')).toBe(false);
    expect(kernel.exists('/c/v2')).toBe(true);
    await removeCgroup(v2, { parents: true }, kernel);
  });

  test('leaves a parent in which another container is', async () => {
    kernel.makeFolder('/c/v2/tsv/db');
    await removeCgroup(v2, { parents: true }, kernel);
    expect(kernel.exists('/c/v2/tsv/db')).toBe(true);
  });

  test('waits for the kernel to say that the last process is gone', async () => {
    kernel.file('/c/v2/tsv/web/cgroup.procs', '4000000').file(events, 'populated 1');
    const done = removeCgroup(v2, {}, kernel);
    kernel.file('/c/v2/tsv/web/cgroup.procs', '').file(events, 'populated 0');
    await done;
    expect(kernel.exists('/c/v2/tsv/web')).toBe(false);
  });

  test('tries again in v1, where the kernel says nothing', async () => {
    let busy = 8;
    const { removeFolder } = kernel;
    kernel.removeFolder = (folder) => {
      if (--busy > 0) throw errno('EBUSY');
      removeFolder(folder);
    };
    await removeCgroup(v1, {}, kernel);
    expect(kernel.exists('/c/freezer/tsv/web')).toBe(false);
  });

  test('names the processes that do not go', async () => {
    kernel.file('/c/freezer/tsv/web/cgroup.procs', '4000002\n4000001');
    await expect(removeCgroup(v1, { timeoutMs: 5 }, kernel)).rejects.toMatchObject({
      code: 'TSV_CGROUP',
      details: ['processes are still in it: 4000001 4000002'],
    });
  });
});

test('the processes of a container are those of all its hierarchies and below, each once, none of another namespace', () => {
  kernel.makeFolder('/c/v2/tsv/web/inner');
  kernel.file('/c/v2/tsv/web/cgroup.procs', '12\n0\n7').file('/c/v2/tsv/web/inner/cgroup.procs', '100');
  kernel.file('/c/freezer/tsv/web/cgroup.procs', '7\n8');
  expect(cgroupProcesses({ explicit: false, members: [...v1.members, ...v2.members] }, kernel)).toEqual([
    7, 8, 12, 100,
  ]);
});
