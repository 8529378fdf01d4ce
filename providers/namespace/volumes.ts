import { createHash } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  renameSync,
  rmdirSync,
  rmSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { TsvError } from '../../src/model/errors.ts';
import type { VolumeUse } from '../../src/model/project.ts';
import { copyTree } from '../../src/oci/copy-tree.ts';
import { type RootfsLayers, viewProgram } from '../../src/oci/create-program.ts';
import { openBelow } from '../../src/oci/open.ts';
import { waitExit } from '../../src/sys/children.ts';
import { O } from '../../src/sys/flags.ts';
import { fork } from '../../src/sys/fork.ts';
import type { Mutex } from '../../src/sys/mutex.ts';

/** A folder whose content outlives the container's processes. */
export interface Volume {
  /** Absolute, in the container. */
  readonly path: string;
  /** On the host; its files have the ids of the container. */
  readonly folder: string;
  readonly readonly: boolean;
}

const unfinished = '.new-';
/** What a volume that was there, and empty, is to begin with: whole, and being moved. */
const moving = '.full-';
/** Of a file's name; longer paths go by their digest. */
const nameLimit = 200;

/**
 * One of an image (VOLUME of a Dockerfile), which goes with its machine. `.ts-vm/machines/NAME/volumes/…`: the path in the
 * container, percent-encoded.
 */
export function imageVolume(machineDir: string, path: string): Volume {
  const encoded = encodeURIComponent(path.slice(1));
  const name = encoded.length > nameLimit ? createHash('sha256').update(path).digest('hex') : encoded;
  return { path, folder: join(machineDir, 'volumes', name), readonly: false };
}

/** One of the project, which its containers share. */
export const projectVolume = ({ name, guest, readonly }: VolumeUse, folderOf: (name: string) => string): Volume => ({
  path: guest,
  folder: folderOf(name),
  readonly,
});

/** What volumes are filled from. */
export interface VolumeSource {
  /** The image, and where it can be mounted for a moment. */
  readonly layers: Pick<RootfsLayers, 'lower' | 'folder' | 'mountPoint' | 'userxattr'>;
  /** Id of the container's root, for a folder that the image does not have. */
  readonly owner: number;
  /** One container at a time: others may use the same volumes. */
  readonly turn: Mutex;
}

/**
 * Makes the volumes that are not there yet, with what the image has in their place, owners and all. A volume counts when it
 * has its name: what an interrupted start left is removed.
 * @param options `empty`: those that are there and hold nothing get it, too, as Docker does it for a new container
 */
export function ensureVolumes(
  volumes: readonly Volume[],
  source: VolumeSource,
  options: { readonly empty: boolean },
): Promise<void> {
  if (volumes.length === 0) return Promise.resolve();
  return source.turn.run(async () => {
    for (const { folder } of volumes) finishMove(folder);
    const lacking = volumes.filter(
      ({ folder }) => !existsSync(folder) || (options.empty && readdirSync(folder).length === 0),
    );
    if (lacking.length > 0) await fillAll(lacking, source);
  });
}

async function fillAll(volumes: readonly Volume[], { layers, owner }: VolumeSource): Promise<void> {
  for (const parent of new Set(volumes.map(({ folder }) => dirname(folder)))) {
    mkdirSync(parent, { recursive: true, mode: 0o700 });
    for (const name of readdirSync(parent))
      if (name.startsWith(unfinished)) rmSync(join(parent, name), { recursive: true });
  }
  const view = fork({ fds: {}, steps: viewProgram(layers) });
  const gone = waitExit(view.pid);
  try {
    await view.reported('mounted');
    const root = `/proc/${view.pid}/root${layers.mountPoint}`;
    for (const volume of volumes) await fill(volume, root, owner);
  } finally {
    view.abandon();
    await gone;
  }
}

async function fill({ path, folder }: Volume, root: string, owner: number): Promise<void> {
  const source = imageFolder(root, path);
  // It may be mounted elsewhere already: then it stays the folder that it is.
  const isThere = existsSync(folder);
  if (isThere && source === undefined) return;
  const made = mkdtempSync(join(dirname(folder), unfinished));
  chownSync(made, owner, owner);
  chmodSync(made, 0o755);
  if (source !== undefined) {
    const target = openSync(made, O.RDONLY | O.DIRECTORY);
    try {
      const wrong = await copyTree(source, target);
      if (wrong !== undefined)
        throw new TsvError('TSV_CONTAINER_START', `the volume ${path} could not be filled`, {
          details: [`${basename(folder)}: ${wrong}`],
        });
    } finally {
      closeSync(source);
      closeSync(target);
    }
  }
  renameSync(made, isThere ? movingOf(folder) : folder);
  if (isThere) finishMove(folder);
}

const movingOf = (folder: string): string => join(dirname(folder), `${moving}${basename(folder)}`);

/** Moves what a volume is to begin with into it. A kill in between loses nothing: it goes on at the next start. */
function finishMove(folder: string): void {
  const from = movingOf(folder);
  if (!existsSync(from)) return;
  if (!existsSync(folder)) {
    rmSync(from, { recursive: true }); // of a volume that was removed
    return;
  }
  for (const name of readdirSync(from)) {
    // What a container has made of that name meanwhile is what counts.
    if (lstatSync(join(folder, name), { throwIfNoEntry: false }) !== undefined)
      rmSync(join(from, name), { recursive: true });
    else renameSync(join(from, name), join(folder, name));
  }
  const { uid, gid, mode } = lstatSync(from);
  chownSync(folder, uid, gid);
  chmodSync(folder, mode & 0o7777);
  rmdirSync(from);
}

/** undefined: the image has nothing there. */
function imageFolder(root: string, path: string): number | undefined {
  try {
    return openBelow(root, path, O.RDONLY | O.DIRECTORY);
  } catch (error) {
    if (!(error instanceof TsvError)) throw error;
    if (error.details[0] === 'ENOENT') return undefined;
    throw new TsvError('TSV_IMAGE', `the image has a volume at ${path}, and something else than a folder there`, {
      details: [error.message],
      cause: error,
    });
  }
}
