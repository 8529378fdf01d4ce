import { O } from './flags.ts';
import { syscall, withBytes } from './libc.ts';

/** ioctl_tty(2) */
export const TIOC = { SCTTY: 0x540e, SWINSZ: 0x5414, GPTPEER: 0x5441, SPTLCK: 0x40045431 } as const;

/** struct winsize; each number has 16 bits. */
export function windowSize({ width, height }: { readonly width: number; readonly height: number }): Buffer {
  const size = Buffer.alloc(8);
  size.writeUInt16LE(Math.min(height, 0xffff), 0);
  size.writeUInt16LE(Math.min(width, 0xffff), 2);
  return size;
}

/** The other end of a pseudo-terminal whose master is open: reached by that alone, never by a path. */
export function openPeer(master: number): number {
  withBytes(new Uint8Array(4), (address) => syscall('ioctl', 'unlocking a terminal', master, TIOC.SPTLCK, address));
  return syscall('ioctl', 'opening a terminal', master, TIOC.GPTPEER, O.RDWR | O.NOCTTY);
}

export function resizeTerminal(master: number, size: { readonly width: number; readonly height: number }): void {
  withBytes(windowSize(size), (address) => syscall('ioctl', 'resizing a terminal', master, TIOC.SWINSZ, address));
}

/**
 * The same master once more, to be closed when the command has ended. It may close its own ends a moment before that: with
 * the last master closed too, the kernel would hang the terminal up, and kill what was about to end well (SIGHUP).
 */
export function keepTerminal(master: number): number {
  const F_DUPFD_CLOEXEC = 1030;
  return syscall('fcntl', 'keeping a terminal', master, F_DUPFD_CLOEXEC, 0);
}
