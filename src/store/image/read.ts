import { statSync } from 'node:fs';
import { TsvError } from '../../model/errors.ts';
import type { Descriptor, Digest, ImageConfig, Manifest } from '../../model/image.ts';
import type { ContentStore } from '../content/store.ts';
import { parseConfig } from './config.ts';
import { documentLimit, mediaTypeOf, parseDocument } from './documents.ts';

/** The documents of an image in the store. */
export interface ImageDocuments {
  readonly descriptor: Descriptor;
  /** Of the manifest, as they came. */
  readonly bytes: Buffer;
  readonly manifest: Manifest;
  readonly config: ImageConfig;
}

/**
 * Manifest and config of an image, each hashed on the way. undefined: one of them is not there, or was damaged (and is
 * gone now): a pull brings it back.
 * @throws TSV_IMAGE, TSV_STORE
 */
export function readImage(content: ContentStore, descriptor: Descriptor): ImageDocuments | undefined {
  const bytes = readBlob(content, descriptor);
  if (bytes === undefined) return undefined;
  const document = parseDocument(bytes, descriptor.mediaType);
  if (document.kind !== 'manifest') return undefined;
  const config = readBlob(content, document.manifest.config);
  if (config === undefined) return undefined;
  return { descriptor, bytes, manifest: document.manifest, config: parseConfig(config, document.manifest) };
}

function readBlob(content: ContentStore, descriptor: Descriptor): Buffer | undefined {
  if (!content.has(descriptor)) return undefined;
  try {
    return content.read(descriptor);
  } catch (error) {
    if (error instanceof TsvError && error.code === 'TSV_DIGEST') return undefined;
    throw error;
  }
}

/** The descriptor of a manifest of which only the digest is known. undefined: the store has no such document. */
export function describeManifest(content: ContentStore, digest: Digest): Descriptor | undefined {
  const stat = statSync(content.path(digest), { throwIfNoEntry: false });
  if (stat === undefined || stat.size > documentLimit) return undefined;
  const bare: Descriptor = { mediaType: '', digest, size: stat.size };
  const bytes = readBlob(content, bare);
  if (bytes === undefined) return undefined;
  try {
    return { ...bare, mediaType: mediaTypeOf(bytes) };
  } catch (error) {
    if (error instanceof TsvError && error.code === 'TSV_IMAGE') return undefined; // a config, or a layer
    throw error;
  }
}
