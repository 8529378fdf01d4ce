import { TsvError } from '../../model/errors.ts';

/** image-spec, media-types.md; and Docker's image manifest version 2, schema 2, which says the same in other words. */
export const mediaTypes = {
  index: 'application/vnd.oci.image.index.v1+json',
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar',
  dockerIndex: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerLayer: 'application/vnd.docker.image.rootfs.diff.tar',
} as const;

export type Compression = 'none' | 'gzip' | 'zstd';

/** `manifest`: of one platform; `index`: a choice of those; `schema 1`: Docker's of before 2016. */
export function kindOf(mediaType: string): 'manifest' | 'index' | 'schema 1' | undefined {
  switch (mediaType) {
    case mediaTypes.manifest:
    case mediaTypes.dockerManifest:
      return 'manifest';
    case mediaTypes.index:
    case mediaTypes.dockerIndex:
      return 'index';
    case 'application/vnd.docker.distribution.manifest.v1+json':
    case 'application/vnd.docker.distribution.manifest.v1+prettyjws':
      return 'schema 1';
    default:
      return undefined;
  }
}

export const isConfig = (mediaType: string): boolean =>
  mediaType === mediaTypes.config || mediaType === mediaTypes.dockerConfig;

const layerTypes: Readonly<Record<string, Compression>> = {
  [mediaTypes.layer]: 'none',
  [`${mediaTypes.layer}+gzip`]: 'gzip',
  [`${mediaTypes.layer}+zstd`]: 'zstd',
  [mediaTypes.dockerLayer]: 'none',
  [`${mediaTypes.dockerLayer}.gzip`]: 'gzip',
  [`${mediaTypes.dockerLayer}.zstd`]: 'zstd',
};

/** Layers that their registry may not give away: they are at some other address, to which tsv does not go. */
const foreign = /^application\/vnd\.(?:docker\.image\.rootfs\.foreign\.|oci\.image\.layer\.nondistributable\.)/;

/** How a layer's tar is packed. @throws TSV_IMAGE for a foreign layer, and for one that is no tar */
export function layerCompression(mediaType: string): Compression {
  const compression = Object.hasOwn(layerTypes, mediaType) ? layerTypes[mediaType] : undefined;
  if (compression !== undefined) return compression;
  if (foreign.test(mediaType)) {
    throw new TsvError('TSV_IMAGE', 'the image has a layer that its registry does not have', {
      details: [mediaType, 'such a layer comes from an address in the image, which tsv does not visit'],
      hint: 'these are images of Windows; a Linux image of the same name may exist: tsv image tags NAME',
    });
  }
  throw new TsvError('TSV_IMAGE', 'the image has a layer of an unknown kind', {
    details: [`media type: ${mediaType.slice(0, 200)}`],
    hint: 'layers are tar archives: plain, with gzip or with zstd',
  });
}
