import { posix } from 'node:path';
import type { ContainerDefaults } from './image.ts';
import { isolationOf, type Machine } from './project.ts';

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
