import { expect, test } from 'vitest';
import { findCgroup } from '../../../src/cgroup/find.ts';
import type { CgroupLayout, Hierarchy } from '../../../src/cgroup/layout.ts';

const hierarchy = (version: 1 | 2, name: string): Hierarchy => ({
  version,
  name,
  controllers: name.split(',').filter(Boolean),
  mountPoint: `/cg/${name || 'unified'}`,
});
const layout = (...hierarchies: Hierarchy[]): CgroupLayout => ({ mode: 'hybrid', hierarchies });
const there = (...folders: string[]) => ({ exists: (path: string) => folders.includes(path) });
const foldersOf = (text: string, files: ReturnType<typeof there>, ...hierarchies: Hierarchy[]) =>
  findCgroup(layout(...hierarchies), text, 'tsv/4f7335/web', files).members.map(({ folder }) => folder);

test('a container’s cgroups are where its process says, in the hierarchies that it has one in', () => {
  const text = '5:memory:/tsv/4f7335/web\n4:cpu,cpuacct:/\n3:pids:/tsv/4f7335/web\n0::/tsv/4f7335/web-2\n';
  const files = there('/cg/memory/tsv/4f7335/web', '/cg/pids/tsv/4f7335/web');
  expect(
    foldersOf(text, files, hierarchy(1, 'memory'), hierarchy(1, 'cpu,cpuacct'), hierarchy(1, 'pids'), hierarchy(2, '')),
  ).toEqual(['/cg/memory/tsv/4f7335/web', '/cg/pids/tsv/4f7335/web']);
});

test('a mount that shows only a part of its hierarchy is no hindrance', () => {
  const text = '5:memory:/docker/1f/tsv/4f7335/web\n';
  expect(foldersOf(text, there('/cg/memory/tsv/4f7335/web'), hierarchy(1, 'memory'))).toEqual([
    '/cg/memory/tsv/4f7335/web',
  ]);
  const whole = there('/cg/memory/tsv/4f7335/web', '/cg/memory/docker/1f/tsv/4f7335/web');
  expect(foldersOf(text, whole, hierarchy(1, 'memory'))).toEqual(['/cg/memory/docker/1f/tsv/4f7335/web']);
});

test('cgroups that a container made below its own are left to it', () => {
  const text = '0::/user.slice/x.scope/tsv/4f7335/web/init.scope\n';
  const files = there('/cg/unified/user.slice/x.scope/tsv/4f7335/web');
  expect(foldersOf(text, files, hierarchy(2, ''))).toEqual(['/cg/unified/user.slice/x.scope/tsv/4f7335/web']);
});
