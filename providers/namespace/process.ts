import { posix } from 'node:path';
import { TsvError } from '../../src/model/errors.ts';
import type { ContainerDefaults } from '../../src/model/image.ts';
import { isolationOf, type Machine } from '../../src/model/project.ts';
import { parseSignal } from '../../src/model/signals.ts';

/** @throws TSV_IMAGE when what the image says is no signal */
export function stopSignalOf(machine: Machine, image: ContainerDefaults | undefined): number {
  const own = isolationOf(machine).stopSignal;
  if (own !== undefined || image?.stopSignal === undefined) return own ?? 15;
  const signal = parseSignal(image.stopSignal);
  if (signal !== undefined) return signal;
  throw new TsvError(
    'TSV_IMAGE',
    `${machine.name}: its image is to be stopped by '${image.stopSignal}', which is no signal`,
    {
      hint: 'give the machine a stop_signal in the Tsfile',
    },
  );
}

/**
 * Folders of the container whose content outlives its restarts, without those in whose place the Tsfile or the kernel has
 * something else. @throws TSV_IMAGE when that is to be its root
 */
export function volumePaths(machine: Machine, image: ContainerDefaults | undefined): readonly string[] {
  const taken = new Set([
    ...machine.shares.map(({ guest }) => guest),
    ...(machine.volumes ?? []).map(({ guest }) => guest),
    ...isolationOf(machine).tmpfs.map(({ path }) => path),
    ...machine.disks.map(({ mount }) => mount),
  ]);
  const paths = (image?.volumes ?? []).map((path) => posix.join('/', path).replace(/(?<=.)\/$/, ''));
  if (paths.includes('/')) throw new TsvError('TSV_IMAGE', `${machine.name}: its image is to be a volume as a whole`);
  const kernels = /^\/(?:proc|sys|dev)(?:\/|$)/;
  return [...new Set(paths)].filter((path) => !taken.has(path) && !kernels.test(path)).sort();
}
