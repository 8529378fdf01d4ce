import { createHash } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { TsvError } from '../../src/model/errors.ts';
import { copyTree } from '../../src/oci/copy-tree.ts';
import { type RootfsLayers, viewProgram } from '../../src/oci/create-program.ts';
import { openBelow } from '../../src/oci/open.ts';
import { waitExit } from '../../src/sys/children.ts';
import { O } from '../../src/sys/flags.ts';
import { fork } from '../../src/sys/fork.ts';

/** A folder of an image (VOLUME of a Dockerfile) that is the machine's own: it outlives restarts, and goes with the machine. */
export interface Volume {
  /** Absolute, in the container. */
  readonly path: string;
  /** On the host; its files have the ids of the container. */
  readonly folder: string;
}

const unfinished = '.new-';
/** Of a file's name; longer paths go by their digest. */
const nameLimit = 200;

/** `.ts-vm/machines/NAME/volumes/…`: the path in the container, percent-encoded. */
export function volumeOf(machineDir: string, path: string): Volume {
  const encoded = encodeURIComponent(path.slice(1));
  const name = encoded.length > nameLimit ? createHash('sha256').update(path).digest('hex') : encoded;
  return { path, folder: join(machineDir, 'volumes', name) };
}

/**
 * Makes the volumes that are not there yet, with what the image has in their place, owners and all. A volume counts when it
 * has its name: what an interrupted start left is removed.
 * @param layers the image, and where it can be mounted for a moment
 * @param owner id of the container's root, for a folder that the image does not have
 */
export async function ensureVolumes(
  volumes: readonly Volume[],
  layers: Pick<RootfsLayers, 'lower' | 'folder' | 'mountPoint' | 'userxattr'>,
  owner: number,
): Promise<void> {
  const missing = volumes.filter(({ folder }) => !existsSync(folder));
  const [first] = missing;
  if (first === undefined) return;
  const parent = dirname(first.folder);
  mkdirSync(parent, { recursive: true, mode: 0o700 });
  for (const name of readdirSync(parent))
    if (name.startsWith(unfinished)) rmSync(join(parent, name), { recursive: true });
  const view = fork({ fds: {}, steps: viewProgram(layers) });
  const gone = waitExit(view.pid);
  try {
    await view.reported('mounted');
    const root = `/proc/${view.pid}/root${layers.mountPoint}`;
    for (const volume of missing) await fill(volume, root, owner);
  } finally {
    view.abandon();
    await gone;
  }
}

async function fill({ path, folder }: Volume, root: string, owner: number): Promise<void> {
  const made = mkdtempSync(join(dirname(folder), unfinished));
  chownSync(made, owner, owner);
  chmodSync(made, 0o755);
  const source = imageFolder(root, path);
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
  renameSync(made, folder);
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
