import { AT, O } from './flags.ts';
import { iow } from './ioctl.ts';
import type { Step } from './program.ts';

const TUNSETIFF = iow('T'.charCodeAt(0), 202, 4);
const [IFF_TAP, IFF_NO_PI, IFF_VNET_HDR] = [0x0002, 0x1000, 0x4000];

/** Number of the first tap's descriptor in the child; the others follow. */
export const firstTap = 16;

/**
 * Opens these taps of the network namespace that the child is in, as {@link firstTap} and so on; who they are given to needs no
 * right to networks, and has no others. One that is not there is made, and goes with its descriptor
 * (linux/if_tun.h; networking/tuntap.rst). Pure.
 */
export const openTaps = (names: readonly string[]): Step[] =>
  names.flatMap((name, index): Step[] => {
    const request = Buffer.alloc(40); // struct ifreq: name, flags
    request.write(name, 0, 15, 'latin1');
    request.writeUInt16LE(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, 16);
    const as = `tap${index}`;
    return [
      { call: 'openat', args: [AT.FDCWD, '/dev/net/tun', O.RDWR | O.CLOEXEC, 0], as, note: `the tap ${name}` },
      { call: 'ioctl', args: [{ result: as }, TUNSETIFF, { bytes: request }], note: `the tap ${name}` },
      { call: 'dup3', args: [{ result: as }, firstTap + index, 0] },
    ];
  });
