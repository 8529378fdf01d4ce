import { closeSync, constants, existsSync, openSync, renameSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { TsvError } from '../../model/errors.ts';
import { tryLockExclusive } from '../../sys/flock.ts';
import type { UserMap } from '../../sys/userns.ts';
import { layerName, makingNames, unfinishedKey } from '../cache/layout.ts';
import { ContentStore } from '../content/store.ts';
import { changeNames } from '../image/change-names.ts';
import { imageFiles, imagesFolder } from '../image/layout.ts';
import { layerNames } from '../layer/layout.ts';
import { removeTree } from '../remove-tree.ts';
import { layerLock } from './inventory.ts';
import type { Removal } from './plan.ts';

/** What could not be removed, and why. */
export interface Refusal {
  readonly path: string;
  readonly why: string;
}

/**
 * Removes; gone is success. Names first, so that a kill in between leaves no name of something that is not whole. What
 * somebody works on right now is passed over. To be called in `withStore(…, 'exclusive')`.
 */
export async function remove(
  store: string,
  map: UserMap,
  removal: Removal,
  signal: AbortSignal,
): Promise<readonly Refusal[]> {
  const refused: Refusal[] = [];
  const attempt = async (path: string, work: () => Promise<unknown> | unknown): Promise<void> => {
    if (signal.aborted) throw new TsvError('TSV_CANCELLED', 'interrupted', { exitCode: 130 });
    try {
      await work();
    } catch (error) {
      if (error instanceof TsvError && error.code === 'TSV_CANCELLED') throw error;
      refused.push({ path, why: (error as Error).message });
    }
  };
  if (removal.names.length > 0) {
    const gone = new Set(removal.names.map(nameKey));
    await changeNames(store, signal, (names) => names.filter((entry) => !gone.has(nameKey(entry))));
  }
  const images = imagesFolder(store);
  if (existsSync(images)) {
    const content = ContentStore.open(images);
    for (const { digest } of removal.blobs) await attempt(content.path(digest), () => content.remove(digest));
    for (const partial of removal.partials)
      await attempt(join(images, 'partial', partial.name), () => content.removePartial(partial));
  }
  for (const layer of removal.layers) {
    const { path, diffId } = layer;
    await attempt(path, () =>
      locked(layerLock(layer), async () => {
        // Under its final name a layer is whole.
        const doomed = join(path, '..', `${layerNames(diffId).unfinished}gone`);
        await removeTree(doomed, map);
        if (existsSync(path)) renameSync(path, doomed);
        await removeTree(doomed, map);
        rmSync(layerLock(layer), { force: true }); // whoever waits for it waits for the store first
      }),
    );
  }
  for (const { path, name } of removal.cache) {
    const { key = '' } = layerName(name) ?? {};
    await attempt(path, async () => {
      // As above. Nobody makes one now: the store is ours.
      const doomed = join(path, '..', `${makingNames(key).unfinished}gone`);
      await removeTree(doomed, map);
      if (existsSync(path)) renameSync(path, doomed);
      await removeTree(doomed, map);
    });
  }
  for (const { path, lock } of removal.leftovers) {
    const own = lock === join(images, imageFiles.lock); // that one we hold
    await attempt(path, async () => {
      if (own) await removeTree(path, map);
      else
        await locked(lock, async () => {
          await removeTree(path, map);
          if (unfinishedKey(basename(path)) !== undefined) rmSync(lock, { force: true });
        });
    });
  }
  for (const { path, lock } of removal.templates)
    await attempt(path, () => locked(lock, async () => rmSync(path, { recursive: true, force: true })));
  for (const { path, lock } of removal.boxes) await attempt(path, () => locked(lock, () => removeTree(path, map)));
  return refused;
}

const nameKey = (entry: Removal['names'][number]): string => `${entry.reference ?? ''} ${entry.descriptor.digest}`;

/** Does nothing when somebody else holds the lock. */
async function locked(file: string, work: () => Promise<void>): Promise<void> {
  const fd = openSync(file, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  try {
    if (tryLockExclusive(fd)) await work();
  } finally {
    closeSync(fd);
  }
}
