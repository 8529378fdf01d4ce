import { TsvError } from '../../model/errors.ts';
import { type Descriptor, isDigest, type Manifest, type Platform } from '../../model/image.ts';
import { type Fields, malformed, parseObject } from './fields.ts';
import { isConfig, kindOf, layerCompression, mediaTypes } from './media-types.ts';
import { normalizePlatform, platformWord } from './platform.ts';

/** The most that overlayfs stacks (OVL_MAX_STACK of the kernel). */
const mostLayers = 500;
const mostManifests = 10_000;
/** Bytes of a document that is read as a whole; registries refuse larger ones (distribution-spec, 4 MiB). */
export const documentLimit = 4 << 20;

export type ImageDocument =
  | { readonly kind: 'manifest'; readonly manifest: Manifest }
  | { readonly kind: 'index'; readonly manifests: readonly Descriptor[] };

/**
 * A manifest or an index (image-spec: manifest.md, image-index.md; Docker's: spec v2-2), checked. `mediaType`: what its
 * descriptor or the Content-Type of its answer calls it. A document that could be read as either is refused: two
 * programs would see two images under one digest (CVE-2021-41190).
 * @throws TSV_IMAGE
 */
export function parseDocument(bytes: Uint8Array, mediaType: string): ImageDocument {
  const kind = kindOf(mediaType);
  if (kind === 'schema 1') throw schema1();
  if (kind === undefined) {
    throw new TsvError('TSV_IMAGE', 'this is no container image', {
      details: [`its media type is ${mediaType.slice(0, 200)}`],
    });
  }
  const what = kind === 'manifest' ? "the image's manifest" : "the image's index";
  if (bytes.length > documentLimit) throw malformed(what, '', `${bytes.length} bytes; at most ${documentLimit}`);
  const fields = parseObject(bytes, what);
  const version = fields.count('schemaVersion');
  if (version === 1) throw schema1();
  if (version !== 2) throw fields.wrong('schemaVersion', 'not 2');
  const own = fields.text('mediaType');
  if (own !== undefined && own !== mediaType) {
    throw malformed(what, 'mediaType', `it calls itself ${own.slice(0, 200)}, and was given as ${mediaType}`);
  }
  const others = kind === 'manifest' ? ['manifests', 'fsLayers'] : ['config', 'layers', 'fsLayers'];
  const ambiguous = others.find((name) => fields.has(name));
  if (ambiguous !== undefined) throw fields.wrong(ambiguous, `a ${kind} must not have it`);
  return kind === 'manifest'
    ? { kind, manifest: readManifest(fields, mediaType, what) }
    : { kind, manifests: readIndex(fields, what) };
}

function readManifest(fields: Fields, mediaType: string, what: string): Manifest {
  const config = fields.object('config');
  if (config === undefined) throw fields.wrong('config', 'missing');
  const configDescriptor = readDescriptor(config, what);
  if (!isConfig(configDescriptor.mediaType)) {
    throw new TsvError('TSV_IMAGE', 'this is no container image', {
      details: [`the media type of its config is ${configDescriptor.mediaType.slice(0, 200)}`],
      hint: 'registries also keep charts, signatures and other things, which nothing can run',
    });
  }
  if (configDescriptor.size > documentLimit) throw config.wrong('size', `more than ${documentLimit} bytes`);
  const layers = fields.objects('layers', mostLayers)?.map((layer) => readDescriptor(layer, what));
  if (layers === undefined) throw fields.wrong('layers', 'missing');
  for (const layer of layers) layerCompression(layer.mediaType);
  const annotations = fields.map('annotations');
  return { mediaType, config: configDescriptor, layers, ...(annotations === undefined ? {} : { annotations }) };
}

function readIndex(fields: Fields, what: string): readonly Descriptor[] {
  const manifests = fields.objects('manifests', mostManifests);
  if (manifests === undefined) throw fields.wrong('manifests', 'missing');
  return manifests.map((entry) => readDescriptor(entry, what));
}

/** descriptor.md. `urls` and `data` are not looked at: content comes from where the image comes from. */
export function readDescriptor(fields: Fields, what: string): Descriptor {
  const mediaType = fields.text('mediaType');
  const digest = fields.text('digest');
  const size = fields.count('size');
  if (mediaType === undefined) throw fields.wrong('mediaType', 'missing');
  if (digest === undefined || !isDigest(digest)) throw fields.wrong('digest', 'no sha256 or sha512 digest');
  if (size === undefined) throw fields.wrong('size', 'missing');
  const platform = fields.object('platform');
  const annotations = fields.map('annotations');
  return {
    mediaType,
    digest,
    size,
    ...(platform === undefined ? {} : { platform: readPlatform(platform, what) }),
    ...(annotations === undefined ? {} : { annotations }),
  };
}

/** An index says `unknown/unknown` of what is no image but about one (attestations). */
export function readPlatform(fields: Fields, what: string): Platform {
  const word = (name: string): string | undefined => {
    const text = fields.text(name);
    if (text === undefined || text === '') return undefined;
    if (!platformWord.test(text)) throw malformed(what, fields.at(name), 'no name of a system or processor');
    return text;
  };
  const variant = word('variant');
  return normalizePlatform({
    os: word('os') ?? 'linux',
    architecture: word('architecture') ?? 'amd64',
    ...(variant === undefined ? {} : { variant }),
  });
}

const schema1 = (): TsvError =>
  new TsvError('TSV_IMAGE', 'the image has a manifest of schema 1, as Docker made them before 2016', {
    details: ['its layers have no digests that could be checked'],
    hint: 'take a newer tag, or push the image anew with a current docker or skopeo',
  });

/** The media type of a document that comes without any: what it calls itself, or OCI's by what it has. @throws TSV_IMAGE */
export function mediaTypeOf(bytes: Uint8Array): string {
  const fields = parseObject(bytes, 'the document');
  const own = fields.text('mediaType');
  if (own !== undefined) return own;
  if (fields.count('schemaVersion') === 1) throw schema1();
  return fields.has('manifests') ? mediaTypes.index : mediaTypes.manifest;
}
