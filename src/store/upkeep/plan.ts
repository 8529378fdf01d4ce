import { basename } from 'node:path';
import { TsvError } from '../../model/errors.ts';
import type { Digest } from '../../model/image.ts';
import type { PartialDownload, StoredBlob } from '../content/store.ts';
import type { NamedImage } from '../image/names.ts';
import { type StoredCacheLayer, unusedCache } from './cache.ts';
import type { Inventory, Leftover, Parts, StoredBoxPart, StoredLayer, StoredTemplate } from './inventory.ts';
import { type MachineUse, type Uses, useText } from './uses.ts';

/** What is to be removed from a store. */
export interface Removal {
  readonly names: readonly NamedImage[];
  readonly blobs: readonly StoredBlob[];
  readonly layers: readonly StoredLayer[];
  readonly partials: readonly PartialDownload[];
  readonly leftovers: readonly Leftover[];
  readonly boxes: readonly StoredBoxPart[];
  readonly templates: readonly StoredTemplate[];
  readonly cache: readonly StoredCacheLayer[];
}

export const removalBytes = ({ blobs, layers, partials, boxes, templates, cache }: Removal): number =>
  [blobs, layers, partials, boxes, templates, cache].flat().reduce((sum, { bytes }) => sum + bytes, 0);

export const isNothing = (removal: Removal): boolean => Object.values(removal).every(({ length }) => length === 0);

/**
 * What nobody uses. Pure. Kept: what machines were made from, what lock files and Tsfiles name, what is mounted, and what somebody gave
 * a name by hand; with `all` not the last. Boxes, which take long to build, go only with `all`; templates with their box, or
 * when no machine has started from them for {@link templateDays}.
 * @param partsOf what an image consists of; undefined where its documents are missing
 * @throws TSV_STORE when a running machine's image cannot be read: what it needs would not be known
 */
export function planRemoval(
  { mounted, ...inventory }: Inventory,
  uses: Uses,
  partsOf: (digest: Digest) => Parts | undefined,
  { all, now = Date.now() }: { readonly all: boolean; readonly now?: number },
): Removal {
  const kept = inventory.names.filter((entry) => isWanted(entry, uses, all));
  const images = new Set<string>([
    ...kept.map(({ descriptor }) => descriptor.digest),
    ...uses.pinned,
    ...uses.machines.map(({ digest }) => digest),
  ]);
  const { blobs, diffIds, ofRunning } = reach(images, uses.machines, partsOf);
  const boxes = all
    ? inventory.boxes.filter(
        ({ name, digest, path }) =>
          !uses.boxes.has(name) &&
          !uses.machines.some((use) => use.digest === digest) &&
          !mounted.has(mountName(path, 'rootfs')) &&
          !mounted.has(mountName(path, 'disk.raw')),
      )
    : [];
  const cache = unusedCache(inventory.cache, uses, mounted, all);
  const beneath = new Set([
    ...uses.machines.flatMap((use) => use.beneath ?? []),
    ...inventory.cache.filter((layer) => !cache.includes(layer)).flatMap((layer) => layer.beneath),
  ]);
  return {
    names: inventory.names.filter((entry) => !kept.includes(entry)),
    blobs: inventory.blobs.filter(({ digest }) => !blobs.has(digest)),
    layers: inventory.layers.filter(
      ({ diffId, path, current, own, complete }) =>
        !ofRunning.has(diffId) &&
        !mounted.has(mountName(path, 'fs')) &&
        (!diffIds.has(diffId) || (own && !current) || (current && !complete)),
    ),
    partials: inventory.partials,
    leftovers: inventory.leftovers,
    boxes,
    templates: inventory.templates.filter(
      ({ path, boxDigest, usedAt, whole }) =>
        !beneath.has(path) &&
        (all ||
          !whole ||
          now - usedAt > templateDays * 86_400_000 ||
          !inventory.boxes.some(({ digest }) => digest === boxDigest)),
    ),
    cache,
  };
}

/**
 * What goes with the names `entries`: of their content only what no other name and no machine needs. Pure.
 * @param machines those that count; whoever forces leaves out the ones that do not run
 */
export function planImageRemoval(
  inventory: Inventory,
  entries: readonly NamedImage[],
  machines: readonly MachineUse[],
  partsOf: (digest: Digest) => Parts | undefined,
): Removal {
  const others = inventory.names.filter((entry) => !entries.includes(entry));
  const images = new Set<string>([
    ...others.map(({ descriptor }) => descriptor.digest),
    ...machines.map(({ digest }) => digest),
  ]);
  const kept = reach(images, machines, partsOf);
  const own = reach(new Set(entries.map(({ descriptor }) => descriptor.digest)), [], partsOf);
  return {
    names: entries,
    blobs: inventory.blobs.filter(({ digest }) => own.blobs.has(digest) && !kept.blobs.has(digest)),
    layers: inventory.layers.filter(
      ({ diffId, path }) =>
        own.diffIds.has(diffId) && !kept.diffIds.has(diffId) && !inventory.mounted.has(mountName(path, 'fs')),
    ),
    partials: [],
    leftovers: [],
    boxes: [],
    templates: [],
    cache: [],
  };
}

/** A template that nothing was started from for so long is made again when it is. */
const templateDays = 30;

/** As {@link mountedTrees} names it. */
const mountName = (path: string, tree: string): string => `${basename(path)}/${tree}`;

function isWanted(entry: NamedImage, uses: Uses, all: boolean): boolean {
  const { reference, descriptor, source, forMachines } = entry;
  if (uses.machines.some(({ digest }) => digest === descriptor.digest)) return true;
  if (uses.pinned.has(descriptor.digest)) return true;
  if (source !== undefined && uses.pinned.has(source)) return true;
  if (reference !== undefined && uses.references.has(reference)) return true;
  if (reference === undefined) return false;
  return forMachines ? uses.unreadable.length > 0 : !all;
}

function reach(
  images: ReadonlySet<string>,
  machines: readonly MachineUse[],
  partsOf: (digest: Digest) => Parts | undefined,
): { blobs: ReadonlySet<Digest>; diffIds: ReadonlySet<Digest>; ofRunning: ReadonlySet<Digest> } {
  const blobs = new Set<Digest>();
  const diffIds = new Set<Digest>();
  const ofRunning = new Set<Digest>();
  for (const image of images) {
    if (!image.includes(':')) continue; // a box
    const parts = partsOf(image as Digest);
    const running = machines.find((use) => use.digest === image && use.running);
    if (parts === undefined && running !== undefined) {
      throw new TsvError('TSV_STORE', 'what a running machine uses cannot be told: its image is damaged', {
        details: [useText(running), image],
        hint: 'stop the machine, or bring the image back: tsv up in its project',
      });
    }
    for (const blob of parts?.blobs ?? []) blobs.add(blob);
    for (const diffId of parts?.diffIds ?? []) {
      diffIds.add(diffId);
      if (running !== undefined) ofRunning.add(diffId);
    }
  }
  return { blobs, diffIds, ofRunning };
}
