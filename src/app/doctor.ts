import { existsSync } from 'node:fs';
import { openKvm } from '../kvm/host.ts';
import type { Requirement } from '../model/provider.ts';
import { kvmTrialFile, storeDir } from '../state/paths.ts';
import { readUserMap } from '../sys/userns.ts';
import { hostRequirements } from './host.ts';
import { runKvmCheck } from './kvm-check.ts';
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
  const store = storeDir(place.env);
  // The check is a process of its own: where it will be asked for, it runs while the rest is loaded.
  const check = openKvm() === 'open' && !existsSync(kvmTrialFile(store)) ? runKvmCheck() : undefined;
  const { probeProviders } = await import('./context.ts');
  const more = await probeProviders({
    map,
    storeDir: store,
    kvmCheck: () => check ?? runKvmCheck(),
  });
  return [...own, ...more.filter(({ id }) => !known.has(id))];
}
