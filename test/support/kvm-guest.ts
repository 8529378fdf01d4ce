import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { BoxRef } from '../../src/model/provider.ts';

/** What the guest's init does, said by the word `tsv.test=` of its kernel command line. */
export type GuestMode =
  /** Powers off at the ACPI power button. */
  | 'obedient'
  /** Ignores it. */
  | 'deaf'
  /** Ends PID 1. */
  | 'panic';

const init = `#!/busybox sh
/busybox mount -t proc proc /proc
/busybox mount -t sysfs sys /sys
/busybox mount -t devtmpfs dev /dev
for module in /modules/*; do /busybox insmod $module; done
for word in $(/busybox cat /proc/cmdline); do case $word in tsv.test=*) mode=\${word#*=};; esac; done
if [ "$mode" = panic ]; then exit 3; fi
if [ "$mode" = obedient ]; then
  for button in /sys/class/input/event*; do
    if /busybox grep -q 'Power Button' $button/device/name; then
      exec 3</dev/input/\${button##*/} # open before the guest says that it is up: no press is missed
      (/busybox head -c 24 <&3 >/dev/null; echo "guest powers off"; /busybox poweroff -f) &
    fi
  done
fi
echo "guest is up, mode $mode"
while :; do /busybox sleep 1000; done
`;

/**
 * A Linux guest that boots in two seconds on TCG: the given kernel, busybox, and an init of a few lines.
 * @param modules kernel modules, in the order to load them.
 */
export function makeGuest(dir: string, kernel: string, modules: readonly string[]): Omit<BoxRef, 'cmdline'> {
  const busybox = execFileSync('sh', ['-c', 'command -v busybox'], { encoding: 'utf8' }).trim();
  const files: CpioEntry[] = [
    ...['proc', 'sys', 'dev', 'modules'].map((name): CpioEntry => ({ name, mode: 0o040755, content: Buffer.alloc(0) })),
    { name: 'busybox', mode: 0o100755, content: readFileSync(busybox) },
    { name: 'init', mode: 0o100755, content: Buffer.from(init) },
    ...modules.map((file, n) => ({ name: `modules/${n}.ko`, mode: 0o100644, content: readFileSync(file) })),
  ];
  const initrd = join(dir, 'initrd');
  writeFileSync(initrd, cpio(files));
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

/** The `newc` format that the kernel unpacks (the kernel's early-userspace/buffer-format.rst). */
function cpio(entries: readonly CpioEntry[]): Buffer {
  const align = (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
  const pack = ({ name, mode, content }: CpioEntry, inode: number) => {
    const numbers = [inode, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length + 1, 0];
    const head = `070701${numbers.map((n) => n.toString(16).padStart(8, '0')).join('')}${name}\0`;
    return Buffer.concat([align(Buffer.from(head)), align(content)]);
  };
  return Buffer.concat(
    [...entries, { name: 'TRAILER!!!', mode: 0, content: Buffer.alloc(0) }].map((entry, n) => pack(entry, n + 1)),
  );
}
