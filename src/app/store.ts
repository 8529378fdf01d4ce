import type { Emit } from '../model/events.ts';
import type { Action } from '../model/plan.ts';
import { execute, executionError } from '../plan/execute.ts';
import { storeDir } from '../state/paths.ts';
import { withStore } from '../store/image/with-store.ts';
import { forgetLostProjects } from '../store/projects.ts';
import { type Inventory, partsOf, takeInventory } from '../store/upkeep/inventory.ts';
import { isNothing, planRemoval, type Removal, removalBytes } from '../store/upkeep/plan.ts';
import { type Refusal, remove } from '../store/upkeep/remove.ts';
import type { Uses } from '../store/upkeep/uses.ts';
import { type Verification, verifyStore } from '../store/upkeep/verify.ts';
import { readUserMap } from '../sys/userns.ts';
import type { Place } from './place.ts';
import { usesOf } from './uses.ts';

/** One action of a command that is not about a project, with its events. @throws what the action throws, or TSV_CANCELLED */
export async function oneStep<T>(
  action: Action,
  cause: string,
  emit: Emit,
  signal: AbortSignal,
  work: (progress: (text: string) => void) => Promise<T>,
): Promise<T> {
  let outcome: { readonly value: T } | undefined;
  const plan = { nodes: [{ id: 1, action, cause, after: [] }] };
  emit({ type: 'plan', plan });
  const result = await execute(plan, {
    parallel: 1,
    signal,
    emit,
    journal: () => {},
    run: async (_, step) => {
      outcome = { value: await work((text) => step.progress(text)) };
    },
  });
  const error = executionError(result);
  if (error !== undefined) throw error;
  if (outcome === undefined) throw new TypeError('a step that is done has a value');
  return outcome.value;
}

export interface StoreUsage {
  readonly store: string;
  readonly rows: readonly {
    readonly type: 'images' | 'layers' | 'boxes' | 'templates' | 'provision layers' | 'partial downloads';
    readonly count: number;
    readonly bytes: number;
    /** What `store gc` would remove of it, and what `store gc --all` would. */
    readonly reclaimableBytes: number;
    readonly reclaimableAllBytes: number;
  }[];
}

/** What takes the room. */
export async function storeUsage(place: Place): Promise<StoreUsage> {
  const { store, inventory, plan } = await look(place);
  const some = plan(false);
  const all = plan(true);
  const sum = (entries: readonly { readonly bytes: number }[]) =>
    entries.reduce((total, { bytes }) => total + bytes, 0);
  const row = (
    type: StoreUsage['rows'][number]['type'],
    count: number,
    key: 'blobs' | 'layers' | 'boxes' | 'templates' | 'cache' | 'partials',
  ) => ({
    type,
    count,
    bytes: sum(inventory[key]),
    reclaimableBytes: sum(some[key]),
    reclaimableAllBytes: sum(all[key]),
  });
  return {
    store,
    rows: [
      row('images', new Set(inventory.names.map(({ descriptor }) => descriptor.digest)).size, 'blobs'),
      row('layers', inventory.layers.length, 'layers'),
      row('boxes', inventory.boxes.length, 'boxes'),
      row('templates', inventory.templates.length, 'templates'),
      row('provision layers', inventory.cache.length, 'cache'),
      row('partial downloads', inventory.partials.length, 'partials'),
    ],
  };
}

async function look(place: Place): Promise<{
  store: string;
  inventory: Inventory;
  uses: Uses;
  plan: (all: boolean) => Removal;
}> {
  const store = storeDir(place.env);
  const uses = await usesOf(place, store);
  const inventory = takeInventory(store, readUserMap());
  return {
    store,
    inventory,
    uses,
    plan: (all) => planRemoval(inventory, uses, (digest) => partsOf(store, digest), { all }),
  };
}

export interface GcPlan {
  readonly removal: Removal;
  readonly bytes: number;
  readonly nothing: boolean;
  readonly unreadable: Uses['unreadable'];
}

/** What `collectGarbage` would remove right now. */
export async function planGc(place: Place, all: boolean): Promise<GcPlan> {
  const { plan, uses } = await look(place);
  const removal = plan(all);
  return { removal, bytes: removalBytes(removal), nothing: isNothing(removal), unreadable: uses.unreadable };
}

/** Removes what nobody uses; looked at again under the lock, since somebody may have begun to use it. */
export async function collectGarbage(
  place: Place,
  all: boolean,
  emit: Emit,
  signal: AbortSignal,
): Promise<{ readonly removal: Removal; readonly bytes: number; readonly refused: readonly Refusal[] }> {
  const store = storeDir(place.env);
  return oneStep({ do: 'store.gc' }, 'not used', emit, signal, (progress) =>
    withStore(store, 'exclusive', { signal, progress }, async () => {
      forgetLostProjects(store);
      const { plan } = await look(place);
      const removal = plan(all);
      const refused = await remove(store, readUserMap(), removal, signal);
      return { removal, bytes: removalBytes(removal), refused };
    }),
  );
}

export const verifyWholeStore = (place: Place, emit: Emit, signal: AbortSignal): Promise<Verification> =>
  oneStep({ do: 'store.verify' }, 'asked for', emit, signal, (progress) =>
    // Nothing is removed meanwhile: a name and its content are looked at one after the other.
    withStore(storeDir(place.env), 'shared', { signal, progress }, () =>
      verifyStore(storeDir(place.env), readUserMap(), { signal, progress }),
    ),
  );

export type { Removal };
