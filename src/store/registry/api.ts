import type { Descriptor } from '../../model/image.ts';
import type { RemoteFile } from '../download/remote.ts';
import type { Reference } from './reference.ts';

/** A manifest or an index, as its registry has it: the bytes are what the digest is of. */
export interface RemoteDocument {
  /** Its media type is one of those asked for, and the document does not say another; its digest and size are the bytes'. */
  readonly descriptor: Descriptor;
  readonly bytes: Buffer;
}

export interface UploadRequest {
  readonly signal: AbortSignal;
  /** The blob's bytes from `start` to `end` (exclusive); may be called again for what has to be sent again. */
  open(range: { readonly start: number; readonly end: number }): AsyncIterable<Uint8Array>;
  /** A repository of the same registry that has the blob (`library/debian`): it is asked to lend it. */
  readonly mountFrom?: string;
  /** Bytes sent so far. */
  progress?(done: number): void;
}

/**
 * Registries by the distribution specification (OCI 1.1; Docker's Registry HTTP API V2), all of them through one object:
 * it keeps tokens and knows which mirrors did not answer.
 */
export interface ImageRegistry {
  /**
   * The document of a tag or, where the reference has one, of a digest; at most 4 MiB.
   * @throws TSV_IMAGE_UNKNOWN (with the nearest tags), TSV_REGISTRY, TSV_REGISTRY_LOGIN, TSV_DIGEST, TSV_IMAGE
   */
  manifest(reference: Reference): Promise<RemoteDocument>;
  /** A blob of the reference's repository. Opens nothing yet; neither `urls` nor annotations of a descriptor are looked at. */
  blob(reference: Reference, descriptor: Descriptor): RemoteFile;
  /** The repository's tags, in the registry's order; at most 100 000. */
  tags(reference: Reference): AsyncIterable<string>;
  blobExists(reference: Reference, descriptor: Descriptor): Promise<boolean>;
  /** Makes the blob be there. @throws as {@link manifest} */
  uploadBlob(
    reference: Reference,
    descriptor: Descriptor,
    upload: UploadRequest,
  ): Promise<'already there' | 'mounted' | 'uploaded'>;
  /** Under the reference's tag, or by its digest alone where it has no tag. What it names must be there already. */
  putManifest(
    reference: Reference,
    document: { readonly mediaType: string; readonly bytes: Uint8Array },
  ): Promise<Descriptor>;
}
