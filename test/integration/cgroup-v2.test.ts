import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { stats, updateCgroup } from '../../src/cgroup/index.ts';
import type { OciResources } from '../../src/oci/spec.ts';
import { failure } from '../unit/cgroup/kernel.ts';
import { create, layout, name, read, someDisk, strict, useCgroups } from '../unit/cgroup/lab.ts';

/* The limits of cgroup v2, on a host that has the controllers there. What needs none is in cgroup-container.test.ts. */

useCgroups();

const unified = layout.hierarchies.filter(({ version }) => version === 2);
const offered = unified[0]?.controllers ?? [];
const device = someDisk() ?? { major: 0, minor: 0 };

interface Example {
  readonly controller: string;
  readonly resources: OciResources;
  readonly files: Readonly<Record<string, string>>;
  readonly update: OciResources;
  readonly after: Readonly<Record<string, string>>;
}
const examples: readonly Example[] = [
  {
    controller: 'memory',
    resources: { memory: { limit: 64 << 20, swap: 96 << 20, reservation: 32 << 20 } },
    files: { 'memory.max': `${64 << 20}`, 'memory.low': `${32 << 20}` },
    update: { memory: { limit: -1 } },
    after: { 'memory.max': 'max', 'memory.low': `${32 << 20}` },
  },
  {
    controller: 'cpu',
    resources: { cpu: { shares: 512, quota: 25_000, period: 50_000 } },
    files: { 'cpu.weight': '20', 'cpu.max': '25000 50000' },
    update: { cpu: { period: 100_000 } },
    after: { 'cpu.weight': '20', 'cpu.max': '25000 100000' },
  },
  {
    controller: 'cpuset',
    resources: { cpu: { cpus: '0', mems: '0' } },
    files: { 'cpuset.cpus': '0', 'cpuset.mems': '0' },
    update: {},
    after: { 'cpuset.cpus.effective': '0' },
  },
  {
    controller: 'pids',
    resources: { pids: { limit: 20 } },
    files: { 'pids.max': '20' },
    update: { pids: { limit: -1 } },
    after: { 'pids.max': 'max' },
  },
  {
    controller: 'io',
    resources: { blockIO: { throttleReadBpsDevice: [{ ...device, rate: 1 << 20 }] } },
    files: { 'io.max': `${device.major}:${device.minor} rbps=${1 << 20} wbps=max riops=max wiops=max` },
    update: { blockIO: { throttleReadBpsDevice: [{ ...device, rate: 0 }] } },
    after: { 'io.max': '' },
  },
  {
    controller: 'hugetlb',
    resources: { hugepageLimits: [{ pageSize: '2MB', limit: 4 << 20 }] },
    files: { 'hugetlb.2MB.max': `${4 << 20}`, 'hugetlb.2MB.rsvd.max': `${4 << 20}` },
    update: { unified: { 'hugetlb.2MB.max': 'max' } },
    after: { 'hugetlb.2MB.max': 'max', 'hugetlb.2MB.rsvd.max': `${4 << 20}` },
  },
];

describe('the limits of cgroup v2', () => {
  for (const { controller, resources, files, update, after } of examples) {
    test(`of ${controller} are set, and others after an update`, (context) => {
      if (!offered.includes(controller)) {
        context.skip(`no '${controller}' in cgroup v2 (${layout.mode}); it has: ${offered.join(' ') || 'nothing'}`);
      }
      const { cgroup } = create('v2', resources);
      const values = (names: readonly string[]) => Object.fromEntries(names.map((file) => [file, read(cgroup, file)]));
      expect(values(Object.keys(files))).toEqual(files);
      updateCgroup(cgroup, update, strict);
      expect(values(Object.keys(after))).toEqual(after);
    });
  }

  test('that it does not have are errors that name them', (context) => {
    if (unified.length === 0) context.skip(`this host has no cgroup v2 (${layout.mode})`);
    const message = (resources: OciResources) => failure(() => create('v2', resources)).message;
    expect(message({ network: { classID: 1 } })).toBe(
      "linux.resources.network.classID: this host has no cgroup controller 'net_cls'",
    );
    expect(message({ unified: { 'tsv.none': '1' } })).toMatch(
      /^linux\.resources\.unified\["tsv\.none"\]: cgroup v2 has no controller 'tsv' here/,
    );
    if (offered.includes('memory')) {
      expect(message({ memory: { swappiness: 5 } })).toMatch(/^linux\.resources\.memory\.swappiness: /);
      expect(message({ memory: { swap: 5000 } })).toMatch(/^linux\.resources\.memory\.swap: .*needs memory\.limit/);
    }
    expect(existsSync(join(unified[0]?.mountPoint ?? '', name)), 'nothing is left').toBe(false);
  });

  test('may be handed to an owner: the folder and the files for dividing it, no limit', (context) => {
    if (unified.length === 0) context.skip(`this host has no cgroup v2 (${layout.mode})`);
    const created = create('v2', {}, { ownerUid: 4242 });
    const folder = created.folders[0] ?? '';
    const owner = (file: string) => statSync(join(folder, file)).uid;
    expect(['', 'cgroup.procs', 'cgroup.subtree_control', 'cgroup.threads'].map(owner)).toEqual([
      4242, 4242, 4242, 4242,
    ]);
    expect(['cgroup.freeze', 'cgroup.max.depth', '..'].map(owner)).toEqual([0, 0, 0]);
  });

  test('show in its statistics', (context) => {
    if (!['memory', 'pids'].every((one) => offered.includes(one)))
      context.skip(`no memory, pids in v2 (${layout.mode})`);
    const { cgroup } = create('v2', { memory: { limit: 64 << 20, swap: 64 << 20 }, pids: { limit: 20 } });
    const seen = stats(cgroup);
    expect(seen.memory.usage.limit).toBe(64 << 20);
    expect(seen.memory.raw).toHaveProperty('anon');
    expect(seen.pids).toEqual({ limit: 20 });
  });
});
