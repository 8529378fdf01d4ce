import { type IoLimits, type Machine, usualShares } from '../model/project.ts';
import type { Report } from './diagnostic.ts';
import { fieldOf, numberOf, sizeOf } from './read.ts';
import type { Node } from './tree.ts';

/** Limits of a container that most do without. What is the same as nothing is left out. */
export function readLimits(node: Node, report: Report): Pick<Machine, 'cpuShares' | 'io'> {
  const cpuShares = numberOf(fieldOf(node, 'cpu_shares'))?.value;
  const io = readIo(fieldOf(node, 'io'), report);
  return {
    ...(cpuShares === undefined || cpuShares === usualShares ? {} : { cpuShares }),
    ...(Object.keys(io).length === 0 ? {} : { io }),
  };
}

function readIo(node: Node | undefined, report: Report): IoLimits {
  const rate = (name: string): number | undefined => {
    const size = sizeOf(fieldOf(node, name), report);
    if (size !== undefined && size.value < 1) report(size.at, 'a rate is at least 1 byte in a second');
    return size?.value;
  };
  const times = (name: string): number | undefined => numberOf(fieldOf(node, name))?.value;
  const all: Readonly<Record<keyof IoLimits, number | undefined>> = {
    readBytesPerSecond: rate('read_bps'),
    writeBytesPerSecond: rate('write_bps'),
    readsPerSecond: times('read_iops'),
    writesPerSecond: times('write_iops'),
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}
