import type { Machine, Project } from '../model/project.ts';
import type { CacheView } from '../plan/cache.ts';
import { storeDir } from '../state/paths.ts';
import { readUserMap, type UserMap } from '../sys/userns.ts';
import { boxesDir, type Place } from './place.ts';

/**
 * What a plan has to know of the provision cache; undefined where no machine of the project uses it. Reads the store alone: of
 * what is not there nothing is cached.
 */
export async function cacheView(place: Place, project: Project): Promise<CacheView | undefined> {
  const machines = project.machines.filter(({ cache }) => cache === true);
  if (machines.length === 0) return undefined;
  const { ProvisionCache } = await import('../store/cache/cache.ts');
  const [store, map] = [storeDir(place.env), readUserMap()];
  const digests = await Promise.all(
    machines.map(async (machine) => [machine.name, await digestOf(machine, store, map)] as const),
  );
  return {
    digests: Object.fromEntries(digests.flatMap(([name, digest]) => (digest === undefined ? [] : [[name, digest]]))),
    layers: new ProvisionCache(store, map).keys(),
    anew: false,
  };
}

/** What `up` would make the machine from. */
async function digestOf({ image, box, kind }: Machine, store: string, map: UserMap): Promise<string | undefined> {
  if (image?.digest !== undefined) return image.digest;
  if (image !== undefined) {
    const { findImage } = await import('../store/image/find.ts');
    return findImage({ store, map, reference: box })?.digest;
  }
  const { currentDigest } = await import('../store/box/current-digest.ts');
  return currentDigest(boxesDir(), map, box, kind);
}
