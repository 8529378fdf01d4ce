import { hostDevice } from '../../src/net/scripts.ts';

/**
 * Interface name of a machine's tap for its attachment `index` (0, 1, … in the order of `MachineContext.addresses`).
 * The network code makes the tap under this name before `start`; QEMU opens it.
 */
export const tapName = (machine: string, index: number): string => hostDevice('t', machine, index);
