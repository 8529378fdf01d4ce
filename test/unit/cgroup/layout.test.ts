import { describe, expect, test } from 'vitest';
import { type CgroupLayout, detectCgroups } from '../../../src/cgroup/layout.ts';

/** A host: what the files say, and which folders are there and may be written. */
const detect = (files: {
  mounts: string;
  own: string;
  controllers?: Readonly<Record<string, string>>;
  writable?: readonly string[];
  gone?: readonly string[];
}): CgroupLayout =>
  detectCgroups({
    read: (file) => {
      if (file === '/proc/self/mountinfo') return files.mounts;
      if (file === '/proc/self/cgroup') return files.own;
      return files.controllers?.[file.replace(/\/cgroup\.controllers$/, '')] ?? expect.fail(`${file} is not there`);
    },
    exists: (path) => !(files.gone ?? []).includes(path),
    writable: (folder) => files.writable?.includes(folder) ?? true,
  });

const tmpfs = '23 29 0:21 / /sys/fs/cgroup ro,nosuid shared:4 - tmpfs tmpfs ro,mode=755';
const v1Mount = (id: number, folder: string, options: string, root = '/') =>
  `${id} 23 0:${id} ${root} /sys/fs/cgroup/${folder} rw,nosuid,nodev,noexec,relatime shared:${id} - cgroup cgroup rw,${options}`;
const allOfV1 = [
  tmpfs,
  v1Mount(30, 'systemd', 'xattr,release_agent=/lib/systemd/systemd-cgroups-agent,name=systemd'),
  v1Mount(31, 'cpu,cpuacct', 'cpu,cpuacct'),
  v1Mount(32, 'net_cls,net_prio', 'net_cls,net_prio'),
  ...['cpuset', 'memory', 'devices', 'freezer', 'blkio', 'pids', 'hugetlb', 'perf_event', 'rdma'].map((name, i) =>
    v1Mount(33 + i, name, name),
  ),
].join('\n');
const ownInV1 = `14:rdma:/
13:pids:/user.slice/user-1000.slice/session-1.scope
12:hugetlb:/
11:blkio:/user.slice
10:freezer:/
9:devices:/user.slice
8:memory:/user.slice/user-1000.slice/session-1.scope
7:perf_event:/
6:cpuset:/
5:net_cls,net_prio:/
4:cpu,cpuacct:/user.slice
1:name=systemd:/user.slice/user-1000.slice/session-1.scope
0::/user.slice/user-1000.slice/session-1.scope
`;
const unified = '41 23 0:41 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate';
const v2 =
  '29 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot';

describe('the cgroups of a host', () => {
  test('with v1 are a hierarchy for each mount, with the controllers that are mounted together, and the named one', () => {
    const { mode, hierarchies } = detect({ mounts: allOfV1, own: ownInV1 });
    expect(mode).toBe('v1');
    expect(hierarchies.map(({ name, controllers }) => `${name}: ${controllers.join(' ')}`)).toEqual([
      'name=systemd: ',
      'cpu,cpuacct: cpu cpuacct',
      'net_cls,net_prio: net_cls net_prio',
      'cpuset: cpuset',
      'memory: memory',
      'devices: devices',
      'freezer: freezer',
      'blkio: blkio',
      'pids: pids',
      'hugetlb: hugetlb',
      'perf_event: perf_event',
      'rdma: rdma',
    ]);
    expect(hierarchies.find(({ name }) => name === 'memory')).toEqual({
      version: 1,
      name: 'memory',
      controllers: ['memory'],
      mountPoint: '/sys/fs/cgroup/memory',
      own: '/sys/fs/cgroup/memory/user.slice/user-1000.slice/session-1.scope',
      base: '/sys/fs/cgroup/memory',
    });
  });

  test('are hybrid with an empty unified hierarchy beside those of v1', () => {
    const { mode, hierarchies } = detect({
      mounts: `${allOfV1}\n${unified}\n`,
      own: ownInV1,
      controllers: { '/sys/fs/cgroup/unified': '\n' },
    });
    expect(mode).toBe('hybrid');
    expect(hierarchies).toHaveLength(13);
    expect(hierarchies.at(-1)).toMatchObject({ version: 2, name: '', controllers: [], base: '/sys/fs/cgroup/unified' });
  });

  test('are hybrid with a controller that moved to the unified hierarchy', () => {
    const { hierarchies } = detect({
      mounts: `${allOfV1.replace(/^.* - cgroup cgroup rw,pids$/m, '')}\n${unified}`,
      own: ownInV1,
      controllers: { '/sys/fs/cgroup/unified': 'pids\n' },
    });
    expect(hierarchies.filter(({ controllers }) => controllers.includes('pids'))).toMatchObject([{ version: 2 }]);
  });

  test('with v2 are one hierarchy, and root makes cgroups at its top', () => {
    expect(
      detect({
        mounts: v2,
        own: '0::/init.scope\n',
        controllers: { '/sys/fs/cgroup': 'cpuset cpu io memory hugetlb pids rdma misc\n' },
      }),
    ).toEqual({
      mode: 'v2',
      hierarchies: [
        {
          version: 2,
          name: '',
          controllers: ['cpuset', 'cpu', 'io', 'memory', 'hugetlb', 'pids', 'rdma', 'misc'],
          mountPoint: '/sys/fs/cgroup',
          own: '/sys/fs/cgroup/init.scope',
          base: '/sys/fs/cgroup',
        },
      ],
    });
  });

  const slice = '/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice';
  const scope = { own: `0::${slice.slice('/sys/fs/cgroup'.length)}/run-1.scope\n`, mounts: v2 };

  test("with v2 are a user's in what was delegated to it: beside its own cgroup, which holds processes", () => {
    const controllers = { [slice]: 'memory pids\n' };
    const [hierarchy] = detect({ ...scope, controllers, writable: [slice, `${slice}/run-1.scope`] }).hierarchies;
    expect(hierarchy).toMatchObject({ base: slice, own: `${slice}/run-1.scope`, controllers: ['memory', 'pids'] });
  });

  test("with v2 are a user's below its own cgroup when only that was delegated", () => {
    const controllers = { [`${slice}/run-1.scope`]: 'cpu\n' };
    const [hierarchy] = detect({ ...scope, controllers, writable: [`${slice}/run-1.scope`] }).hierarchies;
    expect(hierarchy).toMatchObject({ base: `${slice}/run-1.scope`, controllers: ['cpu'] });
  });

  test('are there, but not for a user to whom nothing was delegated', () => {
    const controllers = { [`${slice}/run-1.scope`]: 'cpu\n' };
    const [hierarchy] = detect({ ...scope, controllers, writable: [] }).hierarchies;
    expect(hierarchy).toMatchObject({ version: 2, own: `${slice}/run-1.scope` });
    expect(hierarchy).not.toHaveProperty('base');
    for (const one of detect({ mounts: allOfV1, own: ownInV1, writable: [] }).hierarchies)
      expect(one).not.toHaveProperty('base');
  });

  test('in a container with a cgroup namespace look like those of a host', () => {
    const [hierarchy] = detect({
      mounts: '720 701 0:26 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate',
      own: '0::/\n',
      controllers: { '/sys/fs/cgroup': 'memory\n' },
      writable: [],
    }).hierarchies;
    expect(hierarchy).toMatchObject({ own: '/sys/fs/cgroup', mountPoint: '/sys/fs/cgroup' });
    expect(hierarchy).not.toHaveProperty('base');
  });

  test("in a container without one are seen from the container's cgroup on", () => {
    const { hierarchies } = detect({
      mounts: [
        tmpfs,
        v1Mount(33, 'memory', 'memory', '/docker/0123'),
        v1Mount(34, 'pids', 'pids', '/docker/0123'),
      ].join('\n'),
      own: '8:memory:/docker/0123/inner\n13:pids:/docker/4567\n',
    });
    expect(hierarchies).toMatchObject([
      { name: 'memory', own: '/sys/fs/cgroup/memory/inner' },
      { name: 'pids', mountPoint: '/sys/fs/cgroup/pids' },
    ]);
    expect(hierarchies[1], 'it is outside of what the mount shows').not.toHaveProperty('own');
  });

  test('do not show a cgroup above the root of the namespace', () => {
    const [hierarchy] = detect({
      mounts: v2,
      own: '0::/../session-1.scope\n',
      controllers: { '/sys/fs/cgroup': 'memory\n' },
    }).hierarchies;
    expect(hierarchy).not.toHaveProperty('own');
  });

  test('do not show a cgroup of ours that is deleted', () => {
    const [hierarchy] = detect({
      mounts: v2,
      own: '0::/gone (deleted)\n',
      controllers: { '/sys/fs/cgroup': 'memory\n' },
      gone: ['/sys/fs/cgroup/gone (deleted)'],
    }).hierarchies;
    expect(hierarchy).not.toHaveProperty('own');
  });

  test('are not those that another mount covers, nor counted twice', () => {
    const mounts = [
      tmpfs,
      v1Mount(33, 'memory', 'memory'),
      v1Mount(34, 'pids', 'pids'),
      '50 23 0:50 / /sys/fs/cgroup rw - tmpfs cover rw',
      '51 50 0:33 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory',
      '52 29 0:33 / /mnt/second\\040view rw - cgroup cgroup rw,memory',
    ].join('\n');
    const { hierarchies } = detect({ mounts, own: '8:memory:/\n13:pids:/\n' });
    expect(hierarchies.map(({ mountPoint }) => mountPoint)).toEqual(['/sys/fs/cgroup/memory']);
    const second = mounts.replace(/^51.*$/m, '');
    expect(detect({ mounts: second, own: '8:memory:/\n' }).hierarchies).toMatchObject([
      { mountPoint: '/mnt/second view' },
    ]);
  });

  test('are none where none are mounted', () => {
    expect(detect({ mounts: '22 27 0:21 / /proc rw,relatime - proc proc rw\n', own: '' })).toEqual({
      mode: 'none',
      hierarchies: [],
    });
  });
});
