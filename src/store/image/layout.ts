import { join } from 'node:path';

/** Where images lie in the store: an image layout (image-layout.md of image-spec) and what tsv needs besides. */
export const imagesFolder = (store: string): string => join(store, 'images');

/** Names in {@link imagesFolder}. docs/images.md describes them. */
export const imageFiles = {
  index: 'index.json',
  layout: 'oci-layout',
  layers: 'layers',
  /** Shared by whoever adds, exclusive for whoever removes. */
  lock: '.lock',
  /** Of index.json, while it is read and written. */
  indexLock: '.lock-index',
  /** What `load` unpacks an archive into: `.load.XXXXXX`. */
  scratch: '.load.',
} as const;
