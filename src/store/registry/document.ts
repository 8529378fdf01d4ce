import { TsvError } from '../../model/errors.ts';
import type { Descriptor, Digest } from '../../model/image.ts';
import { digestOf, hasher, isDigest } from '../content/digest.ts';
import type { RemoteDocument } from './api.ts';

const indexTypes = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
];
const manifestTypes = [
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
];

/** What a registry is asked for. */
export const acceptedTypes: readonly string[] = [...indexTypes, ...manifestTypes];

/** distribution-spec: registries should take manifests of up to 4 MiB; a larger one is not read. */
export const documentLimitBytes = 4 << 20;

export interface Answer {
  readonly bytes: Buffer;
  /** Fields of the answer, as they came. */
  readonly contentType: string | undefined;
  readonly contentDigest: string | undefined;
  /** The digest that was asked for, if one was. */
  readonly wanted: Digest | undefined;
  /** `docker.io/library/nginx:1.27`, for people. */
  readonly name: string;
}

/**
 * Pure. An answer that is what it says it is. Who says what a document is, and whether that is the same for everybody,
 * decides what its digest stands for (CVE-2021-41190): the type in the answer, the type in the document and its shape
 * have to agree.
 * @throws TSV_DIGEST, TSV_IMAGE, TSV_REGISTRY
 */
export function checkDocument(answer: Answer): RemoteDocument {
  const { bytes, wanted, name } = answer;
  const mediaType = (answer.contentType ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? '';
  if (mediaType === 'text/html')
    throw new TsvError('TSV_REGISTRY', `what answers for ${name} is a web page`, {
      hint: 'check the host, and whether a proxy or a login page of the network answers instead of the registry',
    });
  const digest = checkDigest(bytes, answer);
  const value = parse(bytes, name);
  checkType(value, mediaType, name);
  const descriptor: Descriptor = { mediaType, digest: wanted ?? digest, size: bytes.length };
  return { descriptor, bytes };
}

/** The sha256 of the bytes, when nothing that was asked or said is another. */
function checkDigest(bytes: Buffer, { contentDigest, wanted, name }: Answer): Digest {
  const differs = (what: string, got: string): TsvError =>
    new TsvError('TSV_DIGEST', `${name}: the document does not have ${what}`, {
      details: [`it has ${got}`],
      hint: 'nothing of it is used; try again, and tell whoever runs the registry (or the mirror) if it stays so',
    });
  if (wanted !== undefined && digestLike(wanted, bytes) !== wanted)
    throw differs(`the digest that was asked for, ${wanted}`, digestLike(wanted, bytes));
  if (contentDigest === undefined || contentDigest === '') return digestOf(bytes);
  if (!isDigest(contentDigest))
    throw new TsvError('TSV_DIGEST', `${name}: the registry gives a digest that is none`, {
      details: [`Docker-Content-Digest: ${JSON.stringify(contentDigest.slice(0, 150))}`],
    });
  if (digestLike(contentDigest, bytes) !== contentDigest)
    throw differs(`the digest that its registry gives, ${contentDigest}`, digestLike(contentDigest, bytes));
  return digestOf(bytes);
}

function digestLike(like: Digest, bytes: Buffer): Digest {
  const hash = hasher(like);
  hash.update(bytes);
  return hash.digest();
}

function parse(bytes: Buffer, name: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw refused(name, 'it is no JSON', cause);
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw refused(name, 'it is no JSON object');
}

function checkType(value: Record<string, unknown>, mediaType: string, name: string): void {
  const shown = JSON.stringify(mediaType.slice(0, 150));
  if (value.schemaVersion === 1)
    throw refused(name, 'it is of schema 1, which nobody should use any more: push the image again with a newer tool');
  if (!acceptedTypes.includes(mediaType))
    throw refused(name, `its Content-Type is ${shown}, which is none of an image's`);
  if (value.mediaType !== undefined && value.mediaType !== mediaType)
    throw refused(
      name,
      `its Content-Type is ${shown}, and it says itself that it is ${JSON.stringify(value.mediaType)?.slice(0, 150)}`,
    );
  const has = (key: string): boolean => Object.hasOwn(value, key);
  if (has('manifests') && (has('layers') || has('config')))
    throw refused(name, 'it is an index and a manifest at once (manifests, and layers or config)');
  const isIndex = indexTypes.includes(mediaType);
  if (!has(isIndex ? 'manifests' : 'layers'))
    throw refused(name, `its Content-Type is ${shown}, and it has no ${isIndex ? 'manifests' : 'layers'}`);
}

const refused = (name: string, why: string, cause?: unknown): TsvError =>
  new TsvError('TSV_IMAGE', `${name} is not used: its document is not sound`, {
    details: [why],
    hint: 'whoever made the image or runs the registry has to mend this',
    ...(cause === undefined ? {} : { cause }),
  });
