import { beforeEach, describe, expect, test } from 'vitest';
import { folderToJoin } from '../../../src/cgroup/join.ts';
import type { Cgroup } from '../../../src/cgroup/place.ts';
import { subCgroup } from '../../../src/cgroup/sub.ts';
import { FakeKernel, failure } from './kernel.ts';

const member = (version: 1 | 2, name: string, controllers: readonly string[]) => ({
  version,
  name,
  controllers,
  mountPoint: `/c/${name || 'unified'}`,
  base: `/c/${name || 'unified'}`,
  folder: `/c/${name || 'unified'}/web`,
});
const hybrid: Cgroup = {
  explicit: false,
  members: [
    member(1, 'cpu,cpuacct', ['cpu', 'cpuacct']),
    member(1, 'memory', ['memory']),
    member(1, 'name=systemd', []),
    member(2, '', []),
  ],
};
const v2: Cgroup = { explicit: false, members: [member(2, '', ['memory', 'pids'])] };

let kernel: FakeKernel;
beforeEach(() => {
  kernel = new FakeKernel()
    .hierarchy(1, '/c/cpu,cpuacct', ['cpu', 'cpuacct'])
    .hierarchy(1, '/c/memory', ['memory'])
    .hierarchy(1, '/c/name=systemd', [])
    .hierarchy(2, '/c/unified', ['memory', 'pids']);
  for (const { folder } of hybrid.members)
    for (const path of [folder, `${folder}/a`, `${folder}/a/b`, `${folder}-2`]) kernel.makeFolder(path);
});
const folders = (cgroup: Cgroup, ...wanted: string[]) =>
  subCgroup(cgroup, wanted, kernel).members.map(({ folder }) => folder.replace('/c/', ''));

describe('the cgroup that exec names', () => {
  test('is the container’s own when nothing is named', () => {
    expect(subCgroup(hybrid, [], kernel)).toEqual(hybrid);
    expect(subCgroup(hybrid, [''], kernel)).toEqual(hybrid);
    for (const path of ['/', '.', 'a/..', './/']) expect(subCgroup(hybrid, [path], kernel), path).toEqual(hybrid);
  });

  test.each(['a/b', '/a/b', 'a//b/', '/a/./b', 'a/b/c/..'])(
    '%s begins at the container’s, in every hierarchy',
    (path) => {
      expect(folders(hybrid, path)).toEqual([
        'cpu,cpuacct/web/a/b',
        'memory/web/a/b',
        'name=systemd/web/a/b',
        'unified/web/a/b',
      ]);
      expect(folders(v2, path)).toEqual(['unified/web/a/b']);
    },
  );

  test('with controllers is for their hierarchies', () => {
    const rest = ['name=systemd/web', 'unified/web'];
    expect(folders(hybrid, 'memory:a')).toEqual(['cpu,cpuacct/web', 'memory/web/a', ...rest]);
    expect(folders(hybrid, 'cpuacct,memory:a')).toEqual(['cpu,cpuacct/web/a', 'memory/web/a', ...rest]);
    expect(folders(hybrid, 'cpu:a/b', 'memory:a', 'cpuacct:a/b')).toEqual([
      'cpu,cpuacct/web/a/b',
      'memory/web/a',
      ...rest,
    ]);
    expect(folders(hybrid, 'name=systemd:a')).toEqual([
      'cpu,cpuacct/web',
      'memory/web',
      'name=systemd/web/a',
      'unified/web',
    ]);
  });

  test.each([
    [hybrid, ['..'], 'TSV_CGROUP', '--cgroup "..": it lies outside of the container\'s cgroup'],
    [hybrid, ['../web-2'], 'TSV_CGROUP', '--cgroup "../web-2": it lies outside of the container\'s cgroup'],
    [
      hybrid,
      ['memory:/../../..'],
      'TSV_CGROUP',
      '--cgroup "memory:/../../..": it lies outside of the container\'s cgroup',
    ],
    [v2, ['a/../..'], 'TSV_CGROUP', '--cgroup "a/../..": it lies outside of the container\'s cgroup'],
    [hybrid, ['x'], 'TSV_CGROUP', '--cgroup "x": /c/cpu,cpuacct/web/x is not there'],
    [hybrid, ['pids:a'], 'TSV_CGROUP', /^--cgroup "pids:a": there is no controller 'pids', only cpu,cpuacct, memory, /],
    [hybrid, [':a'], 'TSV_CGROUP', /there is no controller ''/],
    [v2, ['memory:a'], 'TSV_CGROUP', /^--cgroup "memory:a": cgroup v2 has one hierarchy/],
    [hybrid, ['memory:a:b'], 'TSV_USAGE', '--cgroup "memory:a:b": it has more than one colon'],
    [hybrid, ['a', 'memory:a'], 'TSV_USAGE', /^--cgroup "a": a path alone is for all hierarchies/],
    [
      hybrid,
      ['cpu:a', 'cpuacct:a/b'],
      'TSV_USAGE',
      /^--cgroup "cpuacct:a\/b": cpu,cpuacct is to be in .*\/web\/a already/,
    ],
  ] as const)('%#: %j is refused', (cgroup, wanted, code, message) => {
    const error = failure(() => subCgroup(cgroup, wanted, kernel));
    expect(error.code).toBe(code);
    if (typeof message === 'string') expect(error.message).toBe(message);
    else expect(error.message).toMatch(message);
  });
});

describe('a first process that has moved on in v2', () => {
  test('is where others follow it to, when the old cgroup hands controllers down', () => {
    kernel.file('/c/unified/web/a/b/cgroup.procs', '41\n42');
    expect(folderToJoin('/c/unified/web', 42, kernel)).toBe('/c/unified/web');
    kernel.file('/c/unified/web/cgroup.subtree_control', 'memory pids');
    expect(folderToJoin('/c/unified/web', 42, kernel)).toBe('/c/unified/web/a/b');
    expect(folderToJoin('/c/unified/web', 4, kernel)).toBe('/c/unified/web');
  });
});
