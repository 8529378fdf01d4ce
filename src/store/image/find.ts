import { existsSync } from 'node:fs';
import type { Descriptor, Digest, Platform, StoredImage } from '../../model/image.ts';
import type { UserMap } from '../../sys/userns.ts';
import { ContentStore } from '../content/store.ts';
import { layerFolder } from '../layer/layout.ts';
import { formatReference, parseReference, type Reference } from '../registry/reference.ts';
import { imageFiles, imagesFolder } from './layout.ts';
import { type NamedImage, readNames } from './names.ts';
import { acceptable, formatPlatform, hostPlatform } from './platform.ts';
import { describeManifest, readImage } from './read.ts';

export type FindOptions =
  | { readonly store: string; readonly map: UserMap; readonly digest: Digest }
  | { readonly store: string; readonly map: UserMap; readonly reference: string; readonly platform?: Platform };

/**
 * The image, when the store has it whole: documents that are what their digests say, and all layers unpacked for this
 * user map. No network, no lock, few reads.
 * @throws TSV_IMAGE for what is no reference, TSV_STORE
 */
export function findImage(options: FindOptions): StoredImage | undefined {
  const { store, map } = options;
  if (!existsSync(`${imagesFolder(store)}/${imageFiles.layout}`)) return undefined;
  const content = ContentStore.open(imagesFolder(store));
  if ('digest' in options) {
    const named = readNames(store).find(({ descriptor }) => descriptor.digest === options.digest);
    const descriptor = named?.descriptor ?? describeManifest(content, options.digest);
    return descriptor && wholeImage(content, store, map, named?.reference ?? options.digest, descriptor);
  }
  const reference = parseReference(options.reference);
  const known = knownAs(store, content, reference, options.platform ?? hostPlatform);
  return known && wholeImage(content, store, map, formatReference(reference), known.descriptor);
}

/** What the store knows under a reference, whole or not. */
export function knownAs(
  store: string,
  content: ContentStore,
  reference: Reference,
  platform: Platform,
): NamedImage | undefined {
  const named = entriesOf(readNames(store), reference, platform)[0];
  if (named !== undefined || reference.digest === undefined) return named;
  const descriptor = describeManifest(content, reference.digest);
  return descriptor && { reference: formatReference(reference), descriptor, forMachines: true };
}

/**
 * The entries that a reference means on a platform, best first. A digest decides alone: it is the manifest's, or that of
 * the index which the manifest was chosen from.
 */
export function entriesOf(
  names: readonly NamedImage[],
  reference: Reference,
  platform: Platform,
): readonly NamedImage[] {
  const full = formatReference(reference);
  const { digest } = reference;
  const meant = names.filter((entry) =>
    digest === undefined
      ? entry.reference === full
      : entry.descriptor.digest === digest || (entry.source === digest && entry.reference !== undefined),
  );
  const order = acceptable(platform).map(formatPlatform);
  const rank = ({ descriptor }: NamedImage): number =>
    descriptor.platform === undefined ? order.length : order.indexOf(formatPlatform(descriptor.platform));
  return meant.filter((entry) => rank(entry) !== -1).sort((a, b) => rank(a) - rank(b));
}

/** undefined: a document or an unpacked layer is missing. */
export function wholeImage(
  content: ContentStore,
  store: string,
  map: UserMap,
  reference: string,
  descriptor: Descriptor,
): StoredImage | undefined {
  const documents = readImage(content, descriptor);
  if (documents === undefined) return undefined;
  const layers = stack(documents.config.diffIds).map((diffId) => layerFolder(store, map, diffId));
  if (!layers.every((layer) => layer !== undefined)) return undefined;
  return { reference, digest: descriptor.digest, config: documents.config, layers };
}

/**
 * Layers from the uppermost down, each once: overlayfs takes no folder twice. Of a layer that an image has twice the upper
 * one counts, since all that the lower one says is said by it again.
 */
export const stack = (diffIds: readonly Digest[]): readonly Digest[] => [...new Set([...diffIds].reverse())];
