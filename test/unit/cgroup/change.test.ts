import { beforeEach, describe, expect, test } from 'vitest';
import { changeLimits } from '../../../src/cgroup/change.ts';
import type { Cgroup } from '../../../src/cgroup/place.ts';
import { errno, FakeKernel } from './kernel.ts';

/* Limits of a cgroup in which processes run, against a kernel that refuses. Real ones: test/integration/cgroup-container.test.ts */

const controllers = ['memory', 'cpu', 'pids'];
const of = (limit: number, quota: number, pids: number) => ({
  memory: { limit },
  cpu: { quota, period: 100_000 },
  pids: { limit: pids },
});
let kernel: FakeKernel;
beforeEach(() => {
  kernel = new FakeKernel();
});

function v1(): Cgroup {
  const members = controllers.map((name) => {
    kernel.hierarchy(1, `/c/${name}`, [name]).makeFolder(`/c/${name}/web`);
    const mountPoint = `/c/${name}`;
    return { version: 1 as const, name, controllers: [name], mountPoint, base: mountPoint, folder: `/c/${name}/web` };
  });
  kernel.log.length = 0;
  return { explicit: false, members };
}

function v2(): Cgroup {
  kernel.hierarchy(2, '/c', controllers);
  kernel.write('/c/cgroup.subtree_control', '+memory +cpu +pids');
  kernel.makeFolder('/c/web');
  kernel.log.length = 0;
  const member = { version: 2 as const, name: '', controllers, mountPoint: '/c', base: '/c', folder: '/c/web' };
  return { explicit: false, members: [member] };
}

describe('new limits of v1', () => {
  test('are written, and only those that are named', () => {
    expect(changeLimits(v1(), {}, { memory: { limit: 4096 } }, kernel)).toEqual({ missing: [] });
    expect(kernel.log).toEqual(['/c/memory/web/memory.limit_in_bytes = 4096']);
  });

  test('are all as before when the kernel refuses one', () => {
    const cgroup = v1();
    changeLimits(cgroup, {}, of(8192, 100_000, 50), kernel);
    kernel.onWrite = (file, value) =>
      file.endsWith('limit_in_bytes') && value === '4096' ? errno('EBUSY') : undefined;
    const { refused, missing } = changeLimits(cgroup, of(8192, 100_000, 50), of(4096, 50_000, 40), kernel);
    expect([refused?.controller, refused?.errno, missing]).toEqual(['memory', 'EBUSY', []]);
    expect(kernel.read('/c/memory/web/memory.limit_in_bytes')).toBe('8192\n');
    expect(kernel.read('/c/cpu/web/cpu.cfs_quota_us')).toBe('100000\n');
    expect(kernel.read('/c/pids/web/pids.max')).toBe('50\n');
  });

  test('that no file is there for, or that may not be written, are missing as at the start; the others are set', () => {
    const cgroup = v1();
    kernel.without('/c/cpu/web/cpu.cfs_quota_us').without('/c/cpu/web/cpu.cfs_period_us');
    kernel.onWrite = (file) => (file.endsWith('pids.max') ? errno('EACCES') : undefined);
    const { missing, refused } = changeLimits(cgroup, of(8192, 100_000, 50), of(4096, 50_000, 40), kernel);
    expect(refused).toBeUndefined();
    expect([...new Set(missing.map(({ controller }) => controller))]).toEqual(['cpu', 'pids']);
    expect(kernel.read('/c/memory/web/memory.limit_in_bytes')).toBe('4096\n');
  });

  test('are all missing where there is no cgroup', () => {
    const { missing, refused } = changeLimits({ explicit: false, members: [] }, {}, of(1, 1, 1), kernel);
    expect(refused).toBeUndefined();
    expect([...new Set(missing.map(({ controller }) => controller))]).toEqual(controllers);
  });
});

describe('a lower limit of memory in v2', () => {
  const used = '/c/web/memory.current';
  const memory = (limit: number) => ({ memory: { limit } });

  test('comes after what is beyond it has been reclaimed', () => {
    const cgroup = v2();
    kernel.file(used, '9000').file('/c/web/memory.reclaim', '');
    kernel.onWrite = (file, value) => {
      if (file.endsWith('memory.reclaim')) kernel.file(used, `${9000 - Number(value)}`);
      return undefined;
    };
    expect(changeLimits(cgroup, memory(16_384), memory(8192), kernel)).toEqual({ missing: [] });
    expect(kernel.log).toEqual(['/c/web/memory.reclaim = 808', '/c/web/memory.max = 8192']);
  });

  test.each([
    ['less can be reclaimed', 'EAGAIN'],
    ['the kernel is older than 5.19', 'ENOENT'],
  ])('is refused where more is in use and %s: nothing is killed for it', (_, answer) => {
    const cgroup = v2();
    changeLimits(cgroup, {}, memory(16_384), kernel);
    kernel.file(used, '9000').file('/c/web/memory.reclaim', '');
    kernel.onWrite = (file) => (file.endsWith('memory.reclaim') ? errno(answer) : undefined);
    const { refused } = changeLimits(cgroup, memory(16_384), memory(8192), kernel);
    expect(refused).toMatchObject({ controller: 'memory', errno: 'EBUSY' });
    expect(kernel.log).not.toContain('/c/web/memory.max = 8192');
    expect(kernel.read('/c/web/memory.max')).toBe('16384\n');
  });

  test('reclaims nothing that fits', () => {
    const cgroup = v2();
    kernel.file(used, '8192').file('/c/web/memory.reclaim', '');
    changeLimits(cgroup, memory(16_384), memory(8192), kernel);
    expect(kernel.log).toEqual(['/c/web/memory.max = 8192']);
  });
});
