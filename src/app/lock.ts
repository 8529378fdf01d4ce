import { applyLock, describeChange, type LockChange, lockChanges, nextLock, sourcesOf } from '../lockfile/apply.ts';
import { readLock, writeLock } from '../lockfile/file.ts';
import { emptyLock, formatLock, type LockEntry, type LockFile, lockFileName } from '../lockfile/format.ts';
import { TsvError } from '../model/errors.ts';
import type { Emit } from '../model/events.ts';
import type { Digest, StoredImage } from '../model/image.ts';
import type { Machine, Project } from '../model/project.ts';
import { parseReference } from '../model/reference.ts';
import type { State } from '../model/state.ts';
import { resolveTargets } from '../plan/targets.ts';
import { storeDir } from '../state/paths.ts';
import { readState } from '../state/store.ts';
import { readUserMap } from '../sys/userns.ts';
import { boxesDir, load, type Place } from './place.ts';

/** A project as its lock file pins it. */
export interface LockedProject {
  readonly project: Project;
  /** undefined: there is no file. */
  readonly lock: LockFile | undefined;
}

/** The Tsfile, checked, with the digests of its lock file. Writes nothing. @throws TSV_TSFILE_INVALID, TSV_LOCK_FILE, … */
export async function loadLocked(place: Place): Promise<LockedProject> {
  const project = await load(place);
  const lock = readLock(project.dir);
  return { project: applyLock(project, lock), lock };
}

/** `up --locked`: before anything is done. @throws TSV_LOCK_FILE with all that would change */
export async function requireLocked({ project, lock }: LockedProject): Promise<void> {
  const { images } = sourcesOf(project.machines);
  const open = images.filter((image) => lock?.images[image] === undefined);
  const next = nextLock(project.machines, lock, { boxes: await boxEntries(project.machines), images: {} });
  const changes = lockChanges(lock, next).map(describeChange);
  const details = [...open.map((image) => `${image}: not in it`), ...changes];
  if (details.length === 0) return;
  throw new TsvError('TSV_LOCK_FILE', `${lockFileName} does not fit the Tsfile, and with --locked it is not changed`, {
    details,
    hint: 'tsv lock   # writes what is missing, and drops what is not used any more',
  });
}

/**
 * After boxes and images have been taken: the lock file gets what it did not have.
 * @param resolved images that this command took, by reference
 */
export async function rememberLock(
  { project, lock }: LockedProject,
  resolved: ReadonlyMap<string, StoredImage>,
  place: Place,
  emit: Emit,
): Promise<void> {
  const { images } = sourcesOf(project.machines);
  const unlocked = images.filter((image) => lock?.images[image] === undefined);
  const state = unlocked.length === 0 ? undefined : readState(project.dir);
  const found: [string, LockEntry][] = [];
  for (const reference of unlocked) {
    const image = resolved.get(reference) ?? (await usedImage(state, reference, place));
    if (image !== undefined) found.push([reference, await storedEntry(image, place, resolved.has(reference))]);
  }
  const boxes = await boxEntries(project.machines);
  const next = nextLock(project.machines, lock, { boxes, images: Object.fromEntries(found) });
  for (const change of lockChanges(lock, next))
    if (change.kind === 'box' && change.before !== undefined && change.after !== undefined)
      emit({ type: 'notice', text: `the recipe of box ${change.name} is another one than in ${lockFileName}` });
  saveLock(project.dir, lock, next);
}

/** The image that a machine of the project was made from already. */
async function usedImage(state: State | undefined, reference: string, place: Place): Promise<StoredImage | undefined> {
  const record = Object.values(state?.machines ?? {}).find(
    ({ spec }) => spec.image !== undefined && spec.box === reference,
  );
  if (record === undefined) return undefined;
  const { findImage } = await import('../store/image/find.ts');
  return findImage({ store: storeDir(place.env), map: readUserMap(), digest: record.boxDigest as Digest });
}

export interface LockResult {
  readonly changes: readonly LockChange[];
  readonly project: Project;
}

/** `tsv lock`: an entry for every box and image; those that are there stay. Starts nothing. */
export async function writeLocks(place: Place, signal: AbortSignal): Promise<LockResult> {
  const { project, lock } = await loadLocked(place);
  const open = sourcesOf(project.machines).images.filter((image) => lock?.images[image] === undefined);
  const state = readState(project.dir);
  const found: [string, LockEntry][] = [];
  for (const reference of open) {
    const image = (await usedImage(state, reference, place)) ?? (await storedImage(reference, place));
    const entry = image === undefined ? undefined : await storedEntry(image, place, false);
    found.push([reference, entry ?? (await registryEntry(reference, place, signal))]);
  }
  const resolved = { boxes: await boxEntries(project.machines), images: Object.fromEntries(found) };
  const next = nextLock(project.machines, lock, resolved);
  saveLock(project.dir, lock, next);
  return { changes: lockChanges(lock, next), project };
}

/**
 * `tsv update`: asks the registries what the images of these machines are now; all machines when none is named.
 * @param options.write `lock --check` only looks
 */
export async function updateLocks(
  place: Place,
  names: readonly string[],
  options: { readonly signal: AbortSignal; readonly write: boolean },
): Promise<LockResult> {
  const { project, lock } = await loadLocked(place);
  const targets = names.length === 0 ? undefined : resolveTargets(names, project.machines);
  const chosen = project.machines.filter(({ name }) => targets === undefined || targets.includes(name));
  const found = await Promise.all(
    sourcesOf(chosen).images.map(
      async (reference): Promise<[string, LockEntry]> => [
        reference,
        await registryEntry(reference, place, options.signal),
      ],
    ),
  );
  const resolved = { boxes: await boxEntries(project.machines), images: Object.fromEntries(found) };
  const next = nextLock(project.machines, lock, resolved);
  if (options.write) saveLock(project.dir, lock, next);
  return { changes: lockChanges(lock, next), project };
}

/** Not written when nothing differs, so that a file that somebody holds does not change under their hands. */
function saveLock(dir: string, before: LockFile | undefined, next: LockFile): void {
  if (formatLock(before ?? emptyLock) !== formatLock(next)) writeLock(dir, next);
}

const now = (): string => new Date().toISOString().replace(/\.\d+Z$/, 'Z');

/** Digests of the recipes as this installation has them; one that it does not have is left to whoever needs it. */
async function boxEntries(machines: readonly Machine[]): Promise<Record<string, LockEntry>> {
  const { boxes } = sourcesOf(machines);
  if (boxes.length === 0) return {};
  const { findRecipeDigest } = await import('../store/box/recipe-digest.ts');
  const entries = boxes.map((name) => {
    const digest = findRecipeDigest(boxesDir(), name);
    return digest === undefined ? [] : [[name, { digest, date: now(), source: 'recipe' }] as const];
  });
  return Object.fromEntries(entries.flat());
}

async function storedImage(reference: string, place: Place): Promise<StoredImage | undefined> {
  const { findImage } = await import('../store/image/find.ts');
  return findImage({ store: storeDir(place.env), map: readUserMap(), reference });
}

async function storedEntry(image: StoredImage, place: Place, pulled: boolean): Promise<LockEntry> {
  const { layerBytes } = await import('../store/image/size.ts');
  const version = image.config.defaults.labels['org.opencontainers.image.version'];
  const size = layerBytes(storeDir(place.env), image.digest);
  return {
    digest: image.digest,
    date: now(),
    source: pulled ? parseReference(image.reference).registry : 'store',
    ...(version === undefined ? {} : { version }),
    ...(size === undefined ? {} : { size }),
  };
}

async function registryEntry(reference: string, place: Place, signal: AbortSignal): Promise<LockEntry> {
  const [{ resolveImage }, { withBoxMeant }] = await Promise.all([
    import('../store/image/pull.ts'),
    import('./sources.ts'),
  ]);
  const { descriptor, size } = await resolveImage(reference, { env: place.env, signal }).catch((error: unknown) =>
    withBoxMeant(error, reference),
  );
  const version = descriptor.annotations?.['org.opencontainers.image.version'];
  return {
    digest: descriptor.digest,
    date: now(),
    source: parseReference(reference).registry,
    ...(version === undefined ? {} : { version }),
    size,
  };
}
