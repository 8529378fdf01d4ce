import { TsvError } from '../../model/errors.ts';
import type { Descriptor, Digest, Platform, StoredImage } from '../../model/image.ts';
import type { UserMap } from '../../sys/userns.ts';
import { ContentStore } from '../content/store.ts';
import { progressTeller } from '../download/progress.ts';
import type { RemoteFile } from '../download/remote.ts';
import { changeNames } from './change-names.ts';
import { parseConfig } from './config.ts';
import { parseDocument } from './documents.ts';
import { wholeImage } from './find.ts';
import { imagesFolder } from './layout.ts';
import { type NamedImage, withName } from './names.ts';
import { noSuchPlatform, runsOn } from './platform.ts';
import { takeLayers, unpackedBytes } from './take-layers.ts';

/** A manifest that is to be in the store, and where its blobs come from. */
export interface ImageToTake {
  /** In full. Absent: it gets no name. */
  readonly reference?: string;
  /** For people, where it has no name. */
  readonly shown: string;
  readonly descriptor: Descriptor;
  /** Of the manifest; they have been checked against `descriptor`. */
  readonly bytes: Buffer;
  /** What the registry had under the name, if that was an index. */
  readonly source?: Digest;
  readonly wanted: Platform;
  blob(descriptor: Descriptor): RemoteFile;
}

export interface TakeOptions {
  readonly store: string;
  readonly map: UserMap;
  readonly unpackProgram: string;
  readonly signal: AbortSignal;
  progress(text: string): void;
  notice?(text: string): void;
  /** Whether the name shall be the new one's, where the store has another image of this name. */
  mayRename(present: NamedImage): boolean;
  readonly forMachines: boolean;
}

/**
 * Brings an image into the store: config, layers, and only when all of that is there the manifest, then the name. So a
 * manifest in the store has all that it speaks of, whenever this is interrupted. To be called in `withStore(…, 'shared')`.
 * @throws TSV_IMAGE, TSV_IMAGE_UNKNOWN (it is for another platform), TSV_DIGEST, TSV_DOWNLOAD, TSV_STORE, TSV_CANCELLED
 */
export async function takeImage(image: ImageToTake, options: TakeOptions): Promise<StoredImage> {
  const { store, map, signal } = options;
  const content = ContentStore.open(imagesFolder(store));
  const document = parseDocument(image.bytes, image.descriptor.mediaType);
  if (document.kind !== 'manifest') throw new TypeError('an index is not taken, but one of its manifests');
  const { manifest } = document;
  await content.ingest(manifest.config, image.blob(manifest.config), { signal, progress: () => {} });
  const config = parseConfig(content.read(manifest.config), manifest);
  if (!runsOn(config.platform, image.wanted)) throw noSuchPlatform(image.shown, image.wanted, [config.platform]);
  const count = new Set(config.diffIds).size;
  const tell = progressTeller();
  await takeLayers(content, manifest, config, {
    ...options,
    blob: (descriptor) => image.blob(descriptor),
    progress: ({ layers, bytes, totalBytes }) =>
      options.progress(`${layers}/${count} layers, ${tell(bytes, totalBytes)}`),
  });
  const put = content.put(image.bytes, image.descriptor.mediaType);
  const descriptor: Descriptor = { ...put, platform: config.platform };
  const named: Omit<NamedImage, 'forMachines'> = {
    ...(image.reference === undefined ? {} : { reference: image.reference }),
    descriptor,
    ...(config.created === undefined ? {} : { created: config.created }),
    bytes: unpackedBytes(store, map, config.diffIds),
    ...(image.source === undefined || image.source === put.digest ? {} : { source: image.source }),
  };
  await changeNames(store, signal, (names) => {
    const present = names.find(
      ({ reference, descriptor: { platform } }) =>
        reference !== undefined &&
        reference === named.reference &&
        platform?.architecture === config.platform.architecture,
    );
    if (present !== undefined && !options.mayRename(present)) return names;
    // What somebody has asked for by hand once stays so.
    return withName(names, { ...named, forMachines: options.forMachines && present?.forMachines !== false });
  });
  const whole = wholeImage(content, store, map, image.reference ?? put.digest, descriptor);
  if (whole !== undefined) return whole;
  throw new TsvError('TSV_STORE', `${image.shown} vanished from the store while it came`, {
    details: [imagesFolder(store)],
    hint: 'something other than tsv removes files there: tsv store verify',
  });
}
