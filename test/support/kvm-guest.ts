import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { BoxRef } from '../../src/model/provider.ts';

/** What the guest's init does, said by the word `tsv.test=` of its kernel command line. */
export type GuestMode =
  /** Stays up and listens to nobody: no network, no power button. */
  | 'deaf'
  /** Ends PID 1. */
  | 'panic';

const init = `#!/busybox sh
/busybox mount -t proc proc /proc
if /busybox grep -q tsv.test=panic /proc/cmdline; then exit 3; fi
echo "guest is up"
while :; do /busybox sleep 1000; done
`;

/** A Linux guest that boots in two seconds on TCG: the given kernel, busybox, and an init of a few lines. */
export function makeGuest(dir: string, kernel: string): Omit<BoxRef, 'cmdline'> {
  const busybox = execFileSync('sh', ['-c', 'command -v busybox'], { encoding: 'utf8' }).trim();
  const initrd = join(dir, 'initrd');
  writeFileSync(
    initrd,
    cpio([
      { name: 'proc', mode: 0o040755, content: Buffer.alloc(0) },
      { name: 'busybox', mode: 0o100755, content: readFileSync(busybox) },
      { name: 'init', mode: 0o100755, content: Buffer.from(init) },
    ]),
  );
  const disk = join(dir, 'disk.raw');
  writeFileSync(disk, Buffer.alloc(1 << 20));
  return {
    name: 'test-guest',
    digest: 'sha256:0',
    disk: { path: disk, format: 'raw', virtualBytes: 1 << 20 },
    kernel,
    initrd,
    user: 'root',
  };
}

interface CpioEntry {
  readonly name: string;
  readonly mode: number;
  readonly content: Buffer;
}

/** The `newc` format that the kernel unpacks (its Documentation/driver-api/early-userspace/buffer-format.rst). */
function cpio(entries: readonly CpioEntry[]): Buffer {
  const align = (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
  const pack = ({ name, mode, content }: CpioEntry, inode: number) => {
    const numbers = [inode, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length + 1, 0];
    const head = `070701${numbers.map((n) => n.toString(16).padStart(8, '0')).join('')}${name}\0`;
    return Buffer.concat([align(Buffer.from(head)), align(content)]);
  };
  const trailer = { name: 'TRAILER!!!', mode: 0, content: Buffer.alloc(0) };
  return Buffer.concat([...entries, trailer].map((entry, n) => pack(entry, n + 1)));
}
