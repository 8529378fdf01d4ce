import { windowSize } from '../../src/oci/terminal.ts';
import { O } from '../../src/sys/flags.ts';
import { syscall, withBytes } from '../../src/sys/libc.ts';

/** A pseudo-terminal of the container itself: the master is ours, this gives the slave for the command (ioctl_tty(2)). */
export function openTerminal(ptmx: number): number {
  const TIOCSPTLCK = 0x40045431;
  const TIOCGPTPEER = 0x5441;
  withBytes(new Uint8Array(4), (address) => syscall('ioctl', 'unlocking a terminal', ptmx, TIOCSPTLCK, address));
  return syscall('ioctl', 'opening a terminal', ptmx, TIOCGPTPEER, O.RDWR | O.NOCTTY);
}

export function resizeTerminal(master: number, cols: number, rows: number): void {
  const TIOCSWINSZ = 0x5414;
  withBytes(windowSize({ width: cols, height: rows }), (address) =>
    syscall('ioctl', 'resizing a terminal', master, TIOCSWINSZ, address),
  );
}
