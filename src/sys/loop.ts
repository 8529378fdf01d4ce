import { closeSync, existsSync, openSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { O } from './flags.ts';
import { syscall, syscallError, trySyscall, withBytes } from './libc.ts';

/** linux/loop.h */
const LOOP_CONFIGURE = 0x4c0a;
const LOOP_CTL_GET_FREE = 0x4c82;
const LO_FLAGS_AUTOCLEAR = 4;
/** struct loop_config: fd, block_size, struct loop_info64 of 232 bytes, eight reserved words. */
const layout = { size: 8 + 232 + 64, fd: 0, flags: 60, fileName: 64, fileNameBytes: 63 } as const;

const EBUSY = 16;
/** Others take free devices, too. */
const tries = 100;

/** A file as a block device: loop(4). */
export interface LoopDevice {
  /** `/dev/loop3` */
  readonly path: string;
  /** Keeps the device until it is mounted; the kernel lets go of it with the last who has it open, or mounted. */
  readonly fd: number;
}

/**
 * Makes a block device of an open file; the kernel keeps that open, too, and with it its flock(2), as long as the device is
 * there (Linux 5.8 for LOOP_CONFIGURE).
 * @param name of the file, for those who list loop devices
 * @throws TSV_SYSCALL; the Error of node:fs where there are no loop devices, or for others only
 */
export function attachLoop(file: number, name: string): LoopDevice {
  const control = openSync('/dev/loop-control', O.RDWR | O.CLOEXEC);
  try {
    for (let attempt = 1; ; attempt++) {
      const path = `/dev/loop${syscall('ioctl', 'looking for a free loop device', control, LOOP_CTL_GET_FREE)}`;
      const fd = openSync(path, O.RDWR | O.CLOEXEC);
      const result = withBytes(loopConfig(file, name), (config) => trySyscall('ioctl', fd, LOOP_CONFIGURE, config));
      if (result >= 0) return { path, fd };
      closeSync(fd);
      if (-result !== EBUSY || attempt === tries) throw syscallError('ioctl', `${name} as ${path}`, -result);
    }
  } finally {
    closeSync(control);
  }
}

function loopConfig(file: number, name: string): Buffer {
  const config = Buffer.alloc(layout.size);
  config.writeUInt32LE(file, layout.fd);
  config.writeUInt32LE(LO_FLAGS_AUTOCLEAR, layout.flags);
  Buffer.from(name).copy(config, layout.fileName, 0, layout.fileNameBytes);
  return config;
}

/** The loop device that shows this file, if any: `/dev/loop3`. */
export function loopOf(path: string): string | undefined {
  const real = existsSync(path) ? realpathSync(path) : path;
  const name = readdirSync('/sys/block')
    .filter((entry) => entry.startsWith('loop'))
    .find((entry) => readIfThere(join('/sys/block', entry, 'loop/backing_file')) === real);
  return name === undefined ? undefined : `/dev/${name}`;
}

function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').replace(/\n$/, '');
  } catch {
    return undefined; // it shows no file, or none any more
  }
}
