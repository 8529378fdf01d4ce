import type { Digest } from '../../model/image.ts';
import { ContentStore } from '../content/store.ts';
import { imagesFolder } from './layout.ts';
import { describeManifest, readImage } from './read.ts';

/** Bytes that the layers of an image took on the way; undefined when the store does not have its documents. */
export function layerBytes(store: string, digest: Digest): number | undefined {
  const content = ContentStore.open(imagesFolder(store));
  const descriptor = describeManifest(content, digest);
  const documents = descriptor && readImage(content, descriptor);
  return documents?.manifest.layers.reduce((sum, layer) => sum + layer.size, 0);
}
