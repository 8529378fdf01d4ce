import { TsvError } from '../model/errors.ts';
import type { Emit } from '../model/events.ts';
import type { Digest, Platform, StoredImage } from '../model/image.ts';
import { storeDir } from '../state/paths.ts';
import { ContentStore } from '../store/content/store.ts';
import { loadImages } from '../store/image/archive/load.ts';
import { changeNames } from '../store/image/change-names.ts';
import { findImage } from '../store/image/find.ts';
import { withRegistry } from '../store/image/late-registry.ts';
import { imagesFolder } from '../store/image/layout.ts';
import { lookUp, type Meant } from '../store/image/lookup.ts';
import { familiarText, type NamedImage, readNames, withName } from '../store/image/names.ts';
import { formatPlatform, hostPlatform, parsePlatform } from '../store/image/platform.ts';
import { pullImage } from '../store/image/pull.ts';
import { pushImage } from '../store/image/push.ts';
import { type ImageDocuments, readImage } from '../store/image/read.ts';
import { withStore } from '../store/image/with-store.ts';
import { familiar, formatReference, parseReference } from '../store/registry/reference.ts';
import { partsOf, takeInventory } from '../store/upkeep/inventory.ts';
import { planImageRemoval } from '../store/upkeep/plan.ts';
import { type Refusal, remove } from '../store/upkeep/remove.ts';
import { useText } from '../store/upkeep/uses.ts';
import { readUserMap } from '../sys/userns.ts';
import { builtFile, type Place } from './place.ts';
import { oneStep } from './store.ts';
import { machinesInUse } from './uses.ts';

/** The program that unpacks layers. */
export const unpackProgram = (): string => builtFile('parts/unpack.js');

export interface Work {
  readonly place: Place;
  readonly emit: Emit;
  readonly signal: AbortSignal;
  /** As typed. Absent: the host's. */
  readonly platform?: string;
}

const platformOf = ({ platform }: Work): Platform => (platform === undefined ? hostPlatform : parsePlatform(platform));

export interface PulledImage {
  readonly image: StoredImage;
  /** The store did not have it so. */
  readonly isNew: boolean;
}

/** Asks the registry what a name is now, and takes what the store does not have of it. */
export async function pullByHand(text: string, work: Work): Promise<PulledImage> {
  const { place, emit, signal } = work;
  const reference = formatReference(parseReference(text));
  const store = storeDir(place.env);
  const map = readUserMap();
  const platform = platformOf(work);
  const before = findImage({ store, map, reference, platform });
  const image = await oneStep({ do: 'image.ensure', image: reference }, 'asked for', emit, signal, (progress) =>
    pullImage(text, {
      store,
      map,
      env: place.env,
      platform,
      signal,
      progress,
      notice: (line) => emit({ type: 'notice', text: line }),
      policy: 'always',
      byHand: true,
      unpackProgram: unpackProgram(),
    }),
  );
  return { image, isNew: before?.digest !== image.digest };
}

/** Takes all images of an archive: a path, or a stream with what it is called. */
export function loadArchive(source: Parameters<typeof loadImages>[0], work: Work): ReturnType<typeof loadImages> {
  const { place, emit, signal } = work;
  const archive = typeof source === 'string' ? source : source.name;
  return oneStep({ do: 'image.load', archive }, 'asked for', emit, signal, (progress) =>
    loadImages(source, {
      store: storeDir(place.env),
      map: readUserMap(),
      unpackProgram: unpackProgram(),
      platform: platformOf(work),
      signal,
      progress,
      notice: (line) => emit({ type: 'notice', text: line }),
    }),
  );
}

export interface RemovedImages {
  readonly names: readonly NamedImage[];
  /** Images of which nothing is left. */
  readonly digests: readonly Digest[];
  readonly bytes: number;
  readonly refused: readonly Refusal[];
}

/**
 * Takes names away, and what nobody needs then.
 * @throws TSV_IN_USE when a machine was made from an image that would go; `force` minds only machines that run
 */
export async function removeImages(
  place: Place,
  words: readonly string[],
  { force, signal, waiting }: { readonly force: boolean; readonly signal: AbortSignal; waiting(text: string): void },
): Promise<RemovedImages> {
  const store = storeDir(place.env);
  const map = readUserMap();
  return withStore(store, 'exclusive', { signal, progress: waiting }, async () => {
    const inventory = takeInventory(store, map);
    const meant = words.map((word) => ({ word, ...lookUp(inventory.names, word) }));
    for (const each of meant) refuseManyNames(each, force);
    const entries = inventory.names.filter((entry) => meant.some((each) => each.entries.includes(entry)));
    const left = new Set(
      inventory.names.filter((entry) => !entries.includes(entry)).map(({ descriptor }) => descriptor.digest),
    );
    const going = new Set(entries.map(({ descriptor }) => descriptor.digest).filter((digest) => !left.has(digest)));
    const machines = machinesInUse(store).filter(({ running }) => running || !force);
    const using = machines.filter(({ digest }) => going.has(digest as Digest));
    if (using.length > 0) throw inUse(entries, using);
    const removal = planImageRemoval(inventory, entries, machines, (digest) => partsOf(store, digest));
    const refused = await remove(store, map, removal, signal);
    const bytes = [...removal.blobs, ...removal.layers].reduce((sum, part) => sum + part.bytes, 0);
    return { names: entries, digests: [...going], bytes, refused };
  });
}

function refuseManyNames({ word, by, entries }: Meant & { word: string }, force: boolean): void {
  if (by === 'name' || force || entries.length < 2) return;
  throw new TsvError('TSV_IN_USE', `${word} has several names`, {
    details: entries.map(shownName),
    hint: 'give the name that is to go, or --force for all of them',
  });
}

function inUse(entries: readonly NamedImage[], using: ReturnType<typeof machinesInUse>): TsvError {
  const digests = new Set(using.map(({ digest }) => digest));
  const names = entries.filter(({ descriptor }) => digests.has(descriptor.digest)).map(shownName);
  const running = using.some((use) => use.running);
  const folders = [...new Set(using.map(({ projectDir }) => projectDir))];
  return new TsvError('TSV_IN_USE', `${names.join(', ')}: machines were made from it`, {
    details: using.map(useText),
    hint: `${folders.map((folder) => `tsv -C ${folder} destroy`).join('; ')}${running ? '' : '; or --force, and they cannot start again'}`,
  });
}

const shownName = ({ reference, descriptor }: NamedImage): string =>
  reference === undefined ? descriptor.digest : familiarText(reference);

/** Gives an image one more name. @throws TSV_IMAGE_UNKNOWN, TSV_IMAGE */
export async function tagImage(place: Place, from: string, to: string, signal: AbortSignal): Promise<string> {
  const target = parseReference(to);
  if (target.digest !== undefined)
    throw new TsvError('TSV_USAGE', 'a name that is given has no digest', {
      hint: `tsv image tag ${from} ${familiar({ registry: target.registry, repository: target.repository, tag: target.tag ?? 'latest' })}`,
    });
  const reference = formatReference(target);
  const store = storeDir(place.env);
  await withStore(store, 'shared', { signal, progress: () => {} }, () =>
    changeNames(store, signal, (names) =>
      lookUp(names, from).entries.reduce<readonly NamedImage[]>(
        (all, { source: _, ...entry }) => withName(all, { ...entry, reference, forMachines: false }),
        names,
      ),
    ),
  );
  return familiar(target);
}

/** One image of the store with its documents. @throws TSV_IMAGE_UNKNOWN, TSV_STORE when they are damaged */
export function imageDocuments(
  place: Place,
  word: string,
  platform?: string,
): { by: Meant['by']; entry: NamedImage; documents: ImageDocuments } {
  const store = storeDir(place.env);
  const meant = lookUp(readNames(store), word, platform === undefined ? undefined : parsePlatform(platform));
  const host = formatPlatform(hostPlatform);
  const entry =
    meant.entries.find(({ descriptor }) => descriptor.platform && formatPlatform(descriptor.platform) === host) ??
    meant.entries[0];
  if (entry === undefined) throw new TypeError('what is meant is at least one image');
  const documents = readImage(ContentStore.open(imagesFolder(store)), entry.descriptor);
  if (documents !== undefined) return { by: meant.by, entry, documents };
  throw new TsvError('TSV_STORE', `${shownName(entry)} is not whole in the store`, {
    details: [entry.descriptor.digest],
    hint: `tsv image pull ${shownName(entry)}`,
  });
}

export interface PushedImage {
  readonly target: string;
  readonly digest: Digest;
  readonly uploadedBytes: number;
}

/** Puts an image into a registry, under its own name or another. */
export async function push(word: string, to: string | undefined, work: Work): Promise<PushedImage> {
  const { place, emit, signal } = work;
  const { entry, documents } = imageDocuments(place, word, work.platform);
  const target = parseReference(to ?? entry.reference ?? word);
  const source = entry.reference === undefined ? undefined : parseReference(entry.reference);
  const store = storeDir(place.env);
  const mountFrom =
    source !== undefined && source.registry === target.registry && source.repository !== target.repository
      ? { mountFrom: source.repository }
      : {};
  const image = formatReference(target);
  const pushed = await oneStep({ do: 'image.push', image }, 'asked for', emit, signal, (progress) =>
    withStore(store, 'shared', { signal, progress }, () =>
      pushImage(ContentStore.open(imagesFolder(store)), documents, target, {
        env: place.env,
        signal,
        progress,
        notice: (line) => emit({ type: 'notice', text: line }),
        ...mountFrom,
      }),
    ),
  );
  return { target: familiar(target), ...pushed };
}

/** The tags of a repository, in the order of its registry. */
export async function repositoryTags(place: Place, text: string, signal: AbortSignal): Promise<readonly string[]> {
  return withRegistry({ env: place.env, signal }, async (late) => {
    const tags: string[] = [];
    for await (const tag of (await late.open()).tags(parseReference(text))) tags.push(tag);
    return tags;
  });
}
