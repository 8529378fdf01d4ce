import { TsvError } from '../../model/errors.ts';
import type { Descriptor, Platform, StoredImage } from '../../model/image.ts';
import { ContentStore } from '../content/store.ts';
import { familiar, formatReference, parseReference, type Reference } from '../registry/reference.ts';
import { parseDocument } from './documents.ts';
import { findImage, knownAs } from './find.ts';
import { type LateRegistry, withRegistry } from './late-registry.ts';
import { imagesFolder } from './layout.ts';
import { candidates, hostPlatform, noSuchPlatform } from './platform.ts';
import { readImage } from './read.ts';
import { type ImageToTake, takeImage } from './take.ts';
import type { PullOptions, ResolvedImage, ResolveOptions } from './types.ts';
import { withStore } from './with-store.ts';

/** An index in an index in an index: nobody needs more. */
const deepest = 3;

/**
 * The image, whole in the store: found there, unpacked from what is there, or taken from its registry. However it ends,
 * the store is whole, and what was downloaded serves the next attempt.
 * @throws TSV_IMAGE_UNKNOWN, TSV_IMAGE, TSV_DIGEST, TSV_REGISTRY, TSV_REGISTRY_LOGIN, TSV_DOWNLOAD, TSV_STORE, TSV_CANCELLED
 */
export async function pullImage(text: string, options: PullOptions): Promise<StoredImage> {
  const { store, map, signal, digest, policy = 'missing' } = options;
  const parsed = parseReference(text);
  const reference: Reference = digest === undefined ? parsed : { ...parsed, digest };
  const wanted = options.platform ?? hostPlatform;
  if (policy !== 'always') {
    const found = findImage({ store, map, reference: formatReference(reference), platform: wanted });
    if (found !== undefined) return { ...found, reference: formatReference(parsed) };
  }
  return withStore(store, 'shared', options, () =>
    withRegistry(options, async (registry) => {
      const image =
        (policy === 'always' ? undefined : stored(store, reference, wanted)) ??
        (policy === 'never' ? undefined : await choose(registry, reference, wanted));
      if (image === undefined) throw notInStore(parsed);
      return takeImage(
        {
          ...image,
          reference: formatReference(parsed),
          shown: familiar(reference),
          wanted,
          blob: (descriptor) => registry.blob(reference, descriptor),
        },
        {
          store,
          map,
          unpackProgram: options.unpackProgram,
          signal,
          progress: (line) => options.progress(line),
          notice: (line) => options.notice?.(line),
          // What somebody pulled by hand keeps its name when a lock file wants an older one.
          mayRename: (present) => digest === undefined || present.forMachines,
          forMachines: options.byHand !== true,
        },
      );
    }),
  );
}

/** What a reference is at its registry now, for a platform. Takes nothing. @throws as {@link pullImage} */
export async function resolveImage(text: string, options: ResolveOptions): Promise<ResolvedImage> {
  const reference = parseReference(text);
  const chosen = await withRegistry(options, (registry) =>
    choose(registry, reference, options.platform ?? hostPlatform),
  );
  const document = parseDocument(chosen.bytes, chosen.descriptor.mediaType);
  const layers = document.kind === 'manifest' ? document.manifest.layers : [];
  return {
    reference: formatReference(reference),
    descriptor: chosen.descriptor,
    size: layers.reduce((sum, layer) => sum + layer.size, 0),
  };
}

type Chosen = Pick<ImageToTake, 'descriptor' | 'bytes' | 'source'>;

/** An image whose documents are there but not all of its layers: nobody has to be asked what it is. */
function stored(store: string, reference: Reference, wanted: Platform): Chosen | undefined {
  const content = ContentStore.open(imagesFolder(store));
  const known = knownAs(store, content, reference, wanted);
  const documents = known && readImage(content, known.descriptor);
  if (known === undefined || documents === undefined) return undefined;
  return {
    descriptor: known.descriptor,
    bytes: documents.bytes,
    ...(known.source === undefined ? {} : { source: known.source }),
  };
}

/** The manifest of the platform, by way of indexes. */
async function choose(registry: LateRegistry, reference: Reference, wanted: Platform): Promise<Chosen> {
  const client = await registry.open();
  const first = await client.manifest(reference);
  let { descriptor, bytes } = first;
  for (let depth = 0; depth <= deepest; depth++) {
    const document = parseDocument(bytes, descriptor.mediaType);
    if (document.kind === 'manifest') {
      const source = first.descriptor.digest;
      return { descriptor, bytes, ...(source === descriptor.digest ? {} : { source }) };
    }
    const [best] = candidates(document.manifests, wanted);
    if (best === undefined) {
      const there = document.manifests.flatMap(({ platform }) => (platform === undefined ? [] : [platform]));
      throw noSuchPlatform(familiar(reference), wanted, there);
    }
    const next = await client.manifest({ ...reference, digest: best.digest });
    checkSize(best, next.descriptor, reference);
    descriptor = { ...next.descriptor, ...(best.platform === undefined ? {} : { platform: best.platform }) };
    bytes = next.bytes;
  }
  throw new TsvError('TSV_IMAGE', `${familiar(reference)} is an index of indexes without end`);
}

/** The registry has compared the digest. */
function checkSize(wanted: Descriptor, got: Descriptor, reference: Reference): void {
  if (wanted.mediaType !== got.mediaType) {
    throw new TsvError('TSV_IMAGE', `${familiar(reference)} contradicts itself`, {
      details: [`its index calls the manifest ${wanted.mediaType.slice(0, 200)}, and it is ${got.mediaType}`],
    });
  }
  if (wanted.size === got.size) return;
  throw new TsvError('TSV_DIGEST', `the manifest of ${familiar(reference)} has ${got.size} bytes, not ${wanted.size}`, {
    details: [wanted.digest],
  });
}

function notInStore(reference: Reference): TsvError {
  return new TsvError('TSV_IMAGE_UNKNOWN', `the store does not have ${familiar(reference)}`, {
    hint: `tsv image pull ${familiar(reference)}`,
  });
}
