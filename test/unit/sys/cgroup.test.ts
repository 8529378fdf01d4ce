import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import {
  type CgroupLayout,
  createCgroups,
  detectCgroups,
  findCgroups,
  removeCgroups,
  settings,
} from '../../../src/sys/cgroup.ts';

const limits = { memoryBytes: 1 << 28, cpuQuotaUs: 150_000, cpuPeriodUs: 100_000, pids: 512 };

/** A host: what the files say, and which folders may be written. */
const host =
  (uid: number, files: Readonly<Record<string, string>>, writable: readonly string[]) => (): CgroupLayout => {
    vi.spyOn(process, 'geteuid').mockReturnValue(uid);
    return detectCgroups(
      (file) => files[file] ?? expect.fail(`${file} is not there`),
      (folder) => writable.includes(folder),
    );
  };
afterEach(() => {
  vi.restoreAllMocks();
});

const v1 = `23 29 0:21 / /sys/fs/cgroup ro,nosuid shared:4 - tmpfs tmpfs ro,mode=755
24 23 0:22 / /sys/fs/cgroup/memory rw,nosuid shared:5 - cgroup cgroup rw,memory
25 23 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:6 - cgroup cgroup rw,cpu,cpuacct
26 23 0:24 / /sys/fs/cgroup/pids rw,nosuid shared:7 - cgroup cgroup rw,pids
27 23 0:25 / /sys/fs/cgroup/cpuset rw,nosuid shared:8 - cgroup cgroup rw,cpuset
`;
const v1Folders = ['memory', 'cpu,cpuacct', 'pids', 'cpuset'].map((name) => `/sys/fs/cgroup/${name}`);
const v2 =
  '29 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n';
const hybrid = '28 23 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n';
const own = '12:pids:/user.slice\n4:memory:/user.slice\n0::/user.slice/user-1000.slice/session-1.scope\n';

describe('the cgroups of a host', () => {
  test('with v1 are one hierarchy per controller, found by its mount options', () => {
    const detect = host(0, { '/proc/self/cgroup': own, '/proc/self/mountinfo': v1 }, v1Folders);
    expect(detect()).toEqual({
      memory: { version: 1, base: '/sys/fs/cgroup/memory' },
      cpu: { version: 1, base: '/sys/fs/cgroup/cpu,cpuacct' },
      pids: { version: 1, base: '/sys/fs/cgroup/pids' },
    });
  });

  test('with both are where the controllers are: an empty unified hierarchy has none', () => {
    const files = {
      '/proc/self/cgroup': own,
      '/proc/self/mountinfo': v1 + hybrid,
      '/sys/fs/cgroup/unified/cgroup.controllers': '\n',
    };
    expect(
      Object.values(host(0, files, [...v1Folders, '/sys/fs/cgroup/unified'])()).map(({ version }) => version),
    ).toEqual([1, 1, 1]);
  });

  test('with both may be split: a controller that moved to the unified hierarchy is used there', () => {
    const mounts = v1.replace(/^26.*\n/m, '') + hybrid;
    const files = {
      '/proc/self/cgroup': own,
      '/proc/self/mountinfo': mounts,
      '/sys/fs/cgroup/unified/cgroup.controllers': 'pids rdma\n',
    };
    expect(host(0, files, [...v1Folders, '/sys/fs/cgroup/unified'])()).toMatchObject({
      memory: { version: 1 },
      pids: { version: 2, base: '/sys/fs/cgroup/unified' },
    });
  });

  test("with v2 are root's at the top", () => {
    const files = {
      '/proc/self/cgroup': '0::/init.scope\n',
      '/proc/self/mountinfo': v2,
      '/sys/fs/cgroup/cgroup.controllers': 'cpuset cpu io memory hugetlb pids\n',
    };
    const top = { version: 2, base: '/sys/fs/cgroup' };
    expect(host(0, files, ['/sys/fs/cgroup'])()).toEqual({ memory: top, cpu: top, pids: top });
  });

  test("with v2 are a user's in the folder that was delegated to it, with what that offers", () => {
    const base = '/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice';
    const files = {
      '/proc/self/cgroup': `0::${base.slice('/sys/fs/cgroup'.length)}\n`,
      '/proc/self/mountinfo': v2,
      [`${base}/cgroup.controllers`]: 'memory pids\n',
    };
    expect(host(1000, files, [base])()).toEqual({ memory: { version: 2, base }, pids: { version: 2, base } });
  });

  test.each([
    ['v1', v1],
    ['v2', v2],
  ])('with %s are none for a user to whom nothing was delegated', (_, mounts) => {
    expect(host(1000, { '/proc/self/cgroup': own, '/proc/self/mountinfo': mounts }, [])()).toEqual({});
  });
});

describe('the settings of a limit', () => {
  test.each([
    ['memory', 1, ['memory.limit_in_bytes=268435456']],
    ['memory', 2, ['memory.max=268435456', 'memory.swap.max=0']],
    ['cpu', 1, ['cpu.cfs_period_us=100000', 'cpu.cfs_quota_us=150000']],
    ['cpu', 2, ['cpu.max=150000 100000']],
    ['pids', 1, ['pids.max=512']],
    ['pids', 2, ['pids.max=512']],
  ] as const)('%s, version %i', (controller, version, lines) => {
    expect(settings(controller, version, limits).map(([file, value]) => `${file}=${value}`)).toEqual(lines);
  });
});

describe('the folders of a machine', () => {
  let base: string;
  beforeEach(() => {
    base = mkdtempSync(join(tmpdir(), 'cgroup-'));
  });
  afterEach(() => rmSync(base, { recursive: true, force: true }));
  const layout = (): CgroupLayout => ({
    memory: { version: 1, base: join(base, 'memory') },
    pids: { version: 1, base: join(base, 'pids') },
  });

  test('are made per hierarchy, again without harm, and a missing controller is named', () => {
    const expected = { folders: ['memory', 'pids'].map((name) => join(base, name, 'tsv/id/web')), missing: ['cpu'] };
    expect(createCgroups(layout(), 'tsv/id/web', limits)).toEqual(expected);
    expect(createCgroups(layout(), 'tsv/id/web', limits)).toEqual(expected);
    expect(findCgroups(layout(), 'tsv/id/web')).toEqual(expected.folders);
    expect(findCgroups(layout(), 'tsv/id/db')).toEqual([]);
  });

  test('get the limits that the kernel has a file for', () => {
    const folder = join(base, 'memory/tsv/id/web');
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'memory.limit_in_bytes'), '');
    createCgroups(layout(), 'tsv/id/web', limits);
    expect(readFileSync(join(folder, 'memory.limit_in_bytes'), 'utf8')).toBe('268435456');
    expect(existsSync(join(base, 'pids/tsv/id/web/pids.max'))).toBe(false);
  });

  test('get, with v2, their controllers from every folder above, but do not hand them on', () => {
    createCgroups({ memory: { version: 2, base } }, 'tsv/id/web', limits);
    for (const folder of ['', 'tsv', 'tsv/id'])
      expect(readFileSync(join(base, folder, 'cgroup.subtree_control'), 'utf8')).toBe('+memory');
    expect(
      existsSync(join(base, 'tsv/id/web/cgroup.subtree_control')),
      'processes and subtree_control exclude each other',
    ).toBe(false);
  });

  test("are removed with their parents up to the first that others need; another's stay", () => {
    for (const machine of ['web', 'db']) createCgroups(layout(), `tsv/id/${machine}`, limits);
    removeCgroups(layout(), 'tsv/id/web');
    expect(findCgroups(layout(), 'tsv/id/web')).toEqual([]);
    expect(findCgroups(layout(), 'tsv/id/db')).toHaveLength(2);
    removeCgroups(layout(), 'tsv/id/db');
    expect(findCgroups(layout(), 'tsv')).toEqual([]);
    expect(existsSync(join(base, 'memory')), 'the hierarchy itself').toBe(true);
    removeCgroups(layout(), 'tsv/id/db'); // already gone
  });
});
