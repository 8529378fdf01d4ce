import type { ContainerDefaults, Digest, StoredImage } from '../model/image.ts';
import { storeDir } from '../state/paths.ts';
import { familiarText, readNames } from '../store/image/names.ts';
import { formatPlatform } from '../store/image/platform.ts';
import { unpackedBytes as bytesOfLayers } from '../store/image/take-layers.ts';
import { readUserMap } from '../sys/userns.ts';
import { imageDocuments } from './image.ts';
import type { Place } from './place.ts';

/** All that is known of an image, as `image inspect` prints it. */
export interface ImageDetails {
  readonly reference?: string;
  /** All its names in the store. */
  readonly names: readonly string[];
  readonly digest: Digest;
  /** What its registry has under the name: the index that it was chosen from. */
  readonly sourceDigest: Digest;
  readonly mediaType: string;
  readonly platform: string;
  readonly created?: string;
  readonly author?: string;
  readonly config: ContainerDefaults & { readonly digest: Digest };
  readonly layers: readonly {
    readonly digest: Digest;
    readonly diffId?: Digest;
    readonly mediaType: string;
    readonly bytes: number;
    readonly unpackedBytes?: number;
  }[];
  /** Of the blobs on the way. */
  readonly bytes: number;
  readonly unpackedBytes: number;
}

export function imageDetails(place: Place, word: string, platform?: string): ImageDetails {
  const store = storeDir(place.env);
  const map = readUserMap();
  const { entry, documents } = imageDocuments(place, word, platform);
  const { manifest, config, descriptor } = documents;
  const names = readNames(store).flatMap(({ reference, descriptor: { digest } }) =>
    reference !== undefined && digest === descriptor.digest ? [familiarText(reference)] : [],
  );
  return {
    ...(entry.reference === undefined ? {} : { reference: familiarText(entry.reference) }),
    names,
    digest: descriptor.digest,
    sourceDigest: entry.source ?? descriptor.digest,
    mediaType: descriptor.mediaType,
    platform: formatPlatform(config.platform),
    ...(config.created === undefined ? {} : { created: config.created }),
    ...(config.author === undefined ? {} : { author: config.author }),
    config: { digest: manifest.config.digest, ...config.defaults },
    layers: manifest.layers.map(({ digest, mediaType, size }, index) => {
      const diffId = config.diffIds[index];
      return {
        digest,
        ...(diffId === undefined ? {} : { diffId, unpackedBytes: bytesOfLayers(store, map, [diffId]) }),
        mediaType,
        bytes: size,
      };
    }),
    bytes: [manifest.config, ...manifest.layers].reduce((sum, { size }) => sum + size, descriptor.size),
    unpackedBytes: bytesOfLayers(store, map, config.diffIds),
  };
}

export interface HistoryLine {
  readonly created?: string;
  readonly createdBy: string;
  /** Of the unpacked layer; 0 where the step made none. */
  readonly bytes: number;
  readonly comment?: string;
}

/** How the image was built, the last step first. Layers that the history does not speak of are there, too. */
export function imageHistory(place: Place, word: string, platform?: string): readonly HistoryLine[] {
  const store = storeDir(place.env);
  const map = readUserMap();
  const { config } = imageDocuments(place, word, platform).documents;
  const left = [...config.diffIds];
  const bytesOfNext = (): number => {
    const diffId = left.shift();
    return diffId === undefined ? 0 : bytesOfLayers(store, map, [diffId]);
  };
  const lines = config.history.map(
    ({ created, createdBy, comment, emptyLayer }): HistoryLine => ({
      ...(created === undefined ? {} : { created }),
      createdBy: createdBy ?? '',
      bytes: emptyLayer ? 0 : bytesOfNext(),
      ...(comment === undefined ? {} : { comment }),
    }),
  );
  while (left.length > 0) lines.push({ createdBy: '', bytes: bytesOfNext() });
  return lines.reverse();
}

/** Of the layers of an image, each once. */
export const unpackedBytes = (place: Place, image: StoredImage): number =>
  bytesOfLayers(storeDir(place.env), readUserMap(), image.config.diffIds);
