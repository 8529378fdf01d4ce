import type { Requirement } from '../model/provider.ts';
import { storeDir } from '../state/paths.ts';
import { readUserMap } from '../sys/userns.ts';
import { hostRequirements } from './host.ts';
import type { Place } from './place.ts';

/** Everything about this host that decides what tsv can do here. */
export async function diagnose(place: Place): Promise<readonly Requirement[]> {
  const own = hostRequirements(['vm', 'container']);
  const known = new Set(own.map(({ id }) => id));
  let map: ReturnType<typeof readUserMap>;
  try {
    map = readUserMap();
  } catch {
    return own; // it says so itself: nothing else can be asked
  }
  const { probeProviders } = await import('./context.ts');
  const more = await probeProviders({ map, storeDir: storeDir(place.env) });
  return [...own, ...more.filter(({ id }) => !known.has(id))];
}
