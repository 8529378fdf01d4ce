/*
 * Numbers of ioctl(2) requests, as asm-generic/ioctl.h puts them together (x86-64 has no way of its own): from the lowest bit
 * on, 8 bits number, 8 bits type, 14 bits size of the argument, 2 bits direction as seen by the program.
 */

const request = (direction: number, type: number, number: number, size: number): number =>
  ((direction << 30) | (size << 16) | (type << 8) | number) >>> 0;

/** `_IO`: no structure goes with it. */
export const io = (type: number, number: number): number => request(0, type, number, 0);
/** `_IOW`: the kernel reads a structure of `size` bytes. */
export const iow = (type: number, number: number, size: number): number => request(1, type, number, size);
/** `_IOR`: the kernel writes one. */
export const ior = (type: number, number: number, size: number): number => request(2, type, number, size);
/** `_IOWR`: it reads and writes one. */
export const iowr = (type: number, number: number, size: number): number => request(3, type, number, size);
