import { existsSync, lstatSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Machine } from '../../src/model/project.ts';
import type { MachineContext, Snapshots } from '../../src/model/provider.ts';
import type { SavedMachine } from '../../src/model/snapshot.ts';
import { mustRun } from '../../src/sys/command.ts';
import { copyExact } from '../../src/sys/copy-exact.ts';

/*
 * A snapshot of a container is a copy of what lies over its image: its upper layer, and the volumes of the image.
 *
 *   snapshots/TAG.new/{upper,volumes}   while it is copied
 *   snapshots/TAG/{upper,volumes}
 *
 * It is set back folder by folder, of a container that does not run:
 *
 *   upper.new      the copy
 *   upper.old      what was there, until it is removed
 */

export const snapshotsFolder = 'snapshots';
/** What a container has of its own, but for its disks. */
export const parts = ['upper', 'volumes'] as const;
const unfinished = (name: string): string => `${name}.new`;
const replaced = (name: string): string => `${name}.old`;

/** In a container's folder, after a kill. */
export const swapFolders: readonly string[] = parts.flatMap((part) => [unfinished(part), replaced(part)]);

/** What it shares with others, or has on disks of its own. */
const withoutParts = ({ volumes = [], disks, shares }: Machine): readonly string[] => [
  ...volumes.map(({ name }) => `volume ${name}`),
  ...disks.map(({ name }) => `disk ${name}`),
  ...shares.map(({ host }) => `folder ${host}`),
];

type Place = Pick<MachineContext, 'dir' | 'machine'>;

export const snapshots = {
  async save({ dir, machine }: Place, tag: string, signal: AbortSignal) {
    const folder = join(dir, snapshotsFolder);
    const [made, copy] = [join(folder, tag), join(folder, unfinished(tag))];
    const failure = { code: 'TSV_SNAPSHOT', message: `${machine.name}: its files could not be saved` } as const;
    mkdirSync(copy, { recursive: true, mode: 0o700 });
    for (const part of parts)
      if (existsSync(join(dir, part))) await copyExact(join(dir, part), join(copy, part), failure, signal);
    const size = await mustRun(['du', '-s', '--block-size=1', '--', copy], failure);
    await mustRun(['sync', '-f', '--', copy], failure);
    renameSync(copy, made);
    return {
      memory: false,
      bytes: Number(size.stdout.split('\t', 1)[0]),
      without: withoutParts(machine),
      provider: {},
    };
  },

  async problem({ dir }: Place, { tag }: Pick<SavedMachine, 'tag'>) {
    return existsSync(join(dir, snapshotsFolder, tag, 'upper')) ? undefined : 'its files are not there any more';
  },

  async restore({ dir, machine }: Place, tag: string) {
    const from = join(dir, snapshotsFolder, tag);
    const failure = { code: 'TSV_SNAPSHOT', message: `${machine.name}: its files could not be set back` } as const;
    for (const part of parts) {
      remove(join(dir, unfinished(part)));
      if (existsSync(join(from, part))) await copyExact(join(from, part), join(dir, unfinished(part)), failure);
    }
    await mustRun(['sync', '-f', '--', dir], failure);
    for (const part of parts) {
      const [now, old, next] = [part, replaced(part), unfinished(part)].map((name) => join(dir, name));
      if (now === undefined || old === undefined || next === undefined) continue;
      remove(old);
      if (existsSync(now)) renameSync(now, old);
      if (existsSync(next)) renameSync(next, now);
      remove(old);
    }
    // Overlayfs' own: of the layer that was there.
    remove(join(dir, 'work'));
  },

  async tags({ dir }: Place) {
    const folder = join(dir, snapshotsFolder);
    return lstatSync(folder, { throwIfNoEntry: false })?.isDirectory() === true
      ? readdirSync(folder).map((name) =>
          name.endsWith(unfinished('')) ? name.slice(0, -unfinished('').length) : name,
        )
      : [];
  },

  async delete({ dir }: Place, tag: string) {
    for (const name of [tag, unfinished(tag)]) remove(join(dir, snapshotsFolder, name));
  },
} satisfies Snapshots;

/** A copy whose agent was killed may still be at work there. */
const remove = (path: string): void => rmSync(path, { recursive: true, force: true, maxRetries: 5 });
