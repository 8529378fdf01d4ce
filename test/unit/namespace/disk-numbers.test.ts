import { mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { deviceNumber, disksOf } from '../../../providers/namespace/disk-numbers.ts';

/** A sysfs that has the device of this test's folder, as a partition or a whole disk. */
function sysfs(kind: 'partition' | 'disk' | 'none'): { folder: string; sys: string } {
  const folder = mkdtempSync(join(tmpdir(), 'tsv-disks-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const { major, minor } = deviceNumber(statSync(folder).dev);
  const sys = join(folder, 'sys');
  const disk = join(sys, 'devices/sda');
  mkdirSync(join(disk, 'sda1'), { recursive: true });
  writeFileSync(join(disk, 'dev'), '8:0\n');
  writeFileSync(join(disk, 'sda1/dev'), '8:1\n');
  writeFileSync(join(disk, 'sda1/partition'), '1\n');
  mkdirSync(join(sys, 'dev/block'), { recursive: true });
  const target = { partition: '../../devices/sda/sda1', disk: '../../devices/sda', none: undefined }[kind];
  if (target !== undefined) symlinkSync(target, join(sys, 'dev/block', `${major}:${minor}`));
  return { folder, sys };
}

test.each(['partition', 'disk'] as const)('a folder on a %s is on that disk, two of them as well', (kind) => {
  const { folder, sys } = sysfs(kind);
  expect(disksOf([folder, join(folder, 'sys')], sys)).toEqual([{ major: 8, minor: 0 }]);
});

test('a folder that is on no disk has none', () => {
  const { folder, sys } = sysfs('none');
  expect(disksOf([folder], sys)).toEqual([]);
});

test('numbers of devices are taken apart as the C library does it', () => {
  expect(deviceNumber(0x0801)).toEqual({ major: 8, minor: 1 });
  expect(deviceNumber(0x1234_56_78 >>> 0)).toEqual({ major: 0x456, minor: 0x12378 });
});
