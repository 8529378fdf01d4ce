import { describe, expect, test } from 'vitest';
import type { KvmFacts } from '../../../providers/kvm/accel.ts';
import { templateKeyOf } from '../../../providers/kvm/template.ts';
import type { VmShape } from '../../../src/model/project.ts';
import type { BoxRef } from '../../../src/model/provider.ts';

const machine: VmShape = { memoryBytes: 512 * 2 ** 20, cpus: 1, disks: [], networks: [{ network: 'default' }] };
const box: BoxRef = {
  name: 'debian-12',
  digest: 'd1',
  disk: { path: '/store/disk.raw', format: 'raw', virtualBytes: 8 * 2 ** 30 },
  kernel: '/store/kernel',
  initrd: '/store/initrd',
  cmdline: 'root=/dev/vda rw',
  user: 'tsv',
  warm: true,
};
const facts: KvmFacts = {
  device: 'open',
  deviceMode: '0:0 600',
  cpuFlags: 'svm',
  cpuModel: 'one',
  cpuVendor: 'amd',
  isGuest: false,
  kernelRelease: '6.1.0',
  isRegistered: true,
  otherHypervisors: [],
  user: 'somebody',
  qemu: '/usr/bin/qemu 100 1',
};
const request = { machine, box, accel: 'tcg', facts } as const;
const key = templateKeyOf(request);

describe('the key of a template', () => {
  test('is the same for machines that differ only in who they are and where they are attached', () => {
    expect(key).toMatch(/^[0-9a-f]{64}$/);
    expect(
      templateKeyOf({ ...request, machine: { ...machine, networks: [{ network: 'other', address: '10.0.0.9' }] } }),
    ).toBe(key);
  });

  test.each<[string, Partial<VmShape>]>([
    ['memory', { memoryBytes: 513 * 2 ** 20 }],
    ['number of CPUs', { cpus: 2 }],
    ['number of networks', { networks: [{ network: 'a' }, { network: 'b' }] }],
    ['data disk', { disks: [{ name: 'data', sizeBytes: 2 ** 24 }] }],
  ])('is another one for another %s', (_, change) => {
    expect(templateKeyOf({ ...request, machine: { ...machine, ...change } })).not.toBe(key);
  });

  test('is another one for a data disk of another size or name', () => {
    const withDisk = (name: string, sizeBytes: number) =>
      templateKeyOf({ ...request, machine: { ...machine, disks: [{ name, sizeBytes }] } });
    expect(new Set([withDisk('a', 1), withDisk('a', 2), withDisk('b', 1)]).size).toBe(3);
  });

  test('F36 is another one after an upgrade of QEMU, of the box or of its kernel’s command line', () => {
    for (const change of [
      { facts: { ...facts, qemu: '/usr/bin/qemu 100 2' } },
      { box: { ...box, digest: 'd2' } },
      { box: { ...box, cmdline: 'root=/dev/vda ro' } },
    ])
      expect(templateKeyOf({ ...request, ...change })).not.toBe(key);
  });

  test('F36 goes by the CPU and kernel of the host where guests see them, and only there', () => {
    const elsewhere = [
      { ...facts, cpuModel: 'another' },
      { ...facts, kernelRelease: '6.2.0' },
    ];
    const onKvm = templateKeyOf({ ...request, accel: 'kvm' });
    expect(onKvm).not.toBe(key);
    for (const host of elsewhere) {
      expect(templateKeyOf({ ...request, facts: host })).toBe(key);
      expect(templateKeyOf({ ...request, accel: 'kvm', facts: host })).not.toBe(onKvm);
    }
  });
});
