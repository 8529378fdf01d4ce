import { describe, expect, test } from 'vitest';
import type { CgroupLayout } from '../../../src/cgroup/layout.ts';
import { type Cgroup, placeBelowBase, placeCgroup, withInherited } from '../../../src/cgroup/place.ts';
import { failure } from './kernel.ts';

const layout: CgroupLayout = {
  mode: 'hybrid',
  hierarchies: [
    {
      version: 1,
      name: 'memory',
      controllers: ['memory'],
      mountPoint: '/c/memory',
      own: '/c/memory/own/here',
      base: '/c/memory',
    },
    { version: 1, name: 'cpu,cpuacct', controllers: ['cpu', 'cpuacct'], mountPoint: '/c/cpu', own: '/c/cpu' },
    {
      version: 2,
      name: '',
      controllers: [],
      mountPoint: '/c/unified',
      own: '/c/unified/a/b.scope',
      base: '/c/unified/a',
    },
  ],
};
const folders = ({ members }: Cgroup) => members.map(({ folder }) => folder);

test('where no cgroup could be made, the container is shown ours', () => {
  const { members, ...rest } = placeCgroup(layout, { cgroupsPath: '/pods/web', id: 'x' });
  const shown = withInherited({ ...rest, members: members.slice(0, 1) }, layout);
  expect(folders(shown)).toEqual(['/c/memory/pods/web', '/c/cpu', '/c/unified/a/b.scope']);
  expect(shown.members[1]).toMatchObject({ version: 1, name: 'cpu,cpuacct', controllers: ['cpu', 'cpuacct'] });
  expect(withInherited({ ...rest, members }, layout)).toEqual({ ...rest, members });
});

describe("an OCI container's cgroup", () => {
  test('with an absolute path lies below each mount', () => {
    const cgroup = placeCgroup(layout, { cgroupsPath: '/pods/web', id: 'x' });
    expect(folders(cgroup)).toEqual(['/c/memory/pods/web', '/c/cpu/pods/web', '/c/unified/pods/web']);
    expect(cgroup.explicit).toBe(true);
  });

  test('with a relative path lies below our own cgroup, in v2 beside it', () => {
    const cgroup = placeCgroup(layout, { cgroupsPath: 'pods/web', id: 'x' });
    expect(folders(cgroup)).toEqual(['/c/memory/own/here/pods/web', '/c/cpu/pods/web', '/c/unified/a/pods/web']);
  });

  test('without a path is named after the container', () => {
    const cgroup = placeCgroup(layout, { id: 'web-1' });
    expect(folders(cgroup)).toEqual(['/c/memory/own/here/web-1', '/c/cpu/web-1', '/c/unified/a/web-1']);
    expect(cgroup.explicit).toBe(false);
    expect(folders(placeCgroup(layout, { cgroupsPath: '', id: 'web-1' }))).toEqual(folders(cgroup));
  });

  test.each([
    ['/../../etc', '/c/memory/etc'],
    ['/a/../../../b', '/c/memory/b'],
    ['../../../etc', '/c/memory/own/here/etc'],
    ['a/./b//c/', '/c/memory/own/here/a/b/c'],
  ])('never leaves the mount: %s', (cgroupsPath, folder) => {
    expect(folders(placeCgroup(layout, { cgroupsPath, id: 'x' }))[0]).toBe(folder);
  });

  test.each(['/', '/..', '.', 'a/..', '/a\nb', 'a\0b'])('is one of its own: %j is refused', (cgroupsPath) => {
    expect(failure(() => placeCgroup(layout, { cgroupsPath, id: 'x' }))).toMatchObject({
      code: 'TSV_CGROUP',
      message: expect.stringContaining('linux.cgroupsPath'),
    });
  });

  test('is a plain path when it looks like one of systemd, unless systemd was asked for', () => {
    const cgroupsPath = 'system.slice:docker:0123';
    expect(folders(placeCgroup(layout, { cgroupsPath, id: 'x' }))[1]).toBe('/c/cpu/system.slice:docker:0123');
    expect(failure(() => placeCgroup(layout, { cgroupsPath, id: 'x', systemd: true }))).toMatchObject({
      code: 'TSV_CGROUP',
      hint: expect.stringContaining('--systemd-cgroup'),
    });
  });
});

describe('a cgroup that we name', () => {
  test('lies below the base of each hierarchy that can be used', () => {
    expect(folders(placeBelowBase(layout, 'tsv/id/web'))).toEqual(['/c/memory/tsv/id/web', '/c/unified/a/tsv/id/web']);
  });

  test('is made for chosen controllers, and in the unified hierarchy', () => {
    expect(folders(placeBelowBase(layout, 'tsv/id/web', ['pids']))).toEqual(['/c/unified/a/tsv/id/web']);
  });
});
