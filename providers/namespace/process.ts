import { posix } from 'node:path';
import { TsvError } from '../../src/model/errors.ts';
import type { ContainerDefaults } from '../../src/model/image.ts';
import { isolationOf, type Machine } from '../../src/model/project.ts';
import { parseSignal } from '../../src/model/signals.ts';

/** What runs in a container and as whom: as the Tsfile says, and where it is silent, as the image says. */
export interface ContainerProcess {
  /** Empty: nothing but the small init. */
  readonly args: readonly string[];
  readonly init: boolean;
  /** `user`, `uid`, `user:group` …, as the container's own files know it. */
  readonly user: string;
  /** Absolute. */
  readonly workdir: string;
  /** Of the image, then of the Tsfile. */
  readonly env: Readonly<Record<string, string>>;
}

/** As Docker puts an image and its user's wishes together: an entrypoint of one's own takes the image's command away. */
export function containerProcess(machine: Machine, image: ContainerDefaults | undefined): ContainerProcess {
  const isolation = isolationOf(machine);
  const { entrypoint, command } = machine;
  const args = [
    ...(entrypoint ?? image?.entrypoint ?? []),
    ...(command ?? (entrypoint === undefined ? image?.cmd : undefined) ?? []),
  ];
  const { user, group } = isolation.user ?? {};
  const given = user === undefined ? undefined : group === undefined ? `${user}` : `${user}:${group}`;
  return {
    args,
    init: isolation.init || args.length === 0,
    user: given ?? (image?.user?.replace(/:$/, '') || '0'),
    workdir: isolation.workdir ?? posix.join('/', image?.workdir ?? ''),
    env: { ...Object.fromEntries((image?.env ?? []).map(variable)), ...machine.env },
  };
}

function variable(entry: string): [name: string, value: string] {
  const at = entry.indexOf('=');
  return at === -1 ? [entry, ''] : [entry.slice(0, at), entry.slice(at + 1)];
}

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
