import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { mountedTrees } from '../../../../src/store/upkeep/mounted.ts';

let proc: string;
beforeEach(() => {
  proc = mkdtempSync(join(tmpdir(), 'tsv-proc-'));
});
afterEach(() => rmSync(proc, { recursive: true, force: true }));

function addProcess(pid: string, comm: string, mountinfo: string, files: readonly string[] = []): void {
  mkdirSync(join(proc, pid, 'ns'), { recursive: true });
  mkdirSync(join(proc, pid, 'fd'));
  writeFileSync(join(proc, pid, 'comm'), `${comm}\n`);
  writeFileSync(join(proc, pid, 'mountinfo'), mountinfo);
  symlinkSync(`mnt:[${pid}]`, join(proc, pid, 'ns', 'mnt'));
  for (const [fd, file] of files.entries()) symlinkSync(file, join(proc, pid, 'fd', String(fd)));
}

test('what machines use is told by their mounts, however they write paths, and by what QEMU has open', () => {
  const [a, b, c] = ['a', 'b', 'c'].map((digit) => digit.repeat(64));
  const mount = (options: string, type = 'overlay') => `1 2 0:3 / / rw - ${type} ${type} rw,${options}\n`;
  addProcess(
    '10',
    'init',
    mount(`lowerdir=/s/images/layers/0123456789abcdef/${a}/fs:/s/images/layers/0123456789abcdef/${b}/fs`),
  );
  addProcess(
    '11',
    'init',
    mount(`lowerdir=${c}/fs,upperdir=/u`) + mount('lowerdir=/s/boxes/debian-12/container-0123456789abcdef/rootfs'),
  );
  addProcess('12', 'init', mount(`source=/x/${'d'.repeat(64)}/fs`, 'bind'));
  addProcess('13', 'qemu-system-x86', '', ['/dev/null', '/s/boxes/debian-12/vm-0123456789abcdef/disk.raw']);
  addProcess('14', 'cat', '', ['/s/boxes/debian-12/vm-fedcba9876543210/disk.raw']);
  mkdirSync(join(proc, '15')); // one that is ending
  mkdirSync(join(proc, 'self'));
  expect([...mountedTrees(proc)].sort()).toEqual(
    [`${a}/fs`, `${b}/fs`, `${c}/fs`, 'container-0123456789abcdef/rootfs', 'vm-0123456789abcdef/disk.raw'].sort(),
  );
});
