import type { Digest, Platform } from '../model/image.ts';
import { storeDir } from '../state/paths.ts';
import { familiarText, readNames } from '../store/image/names.ts';
import { formatPlatform, hostPlatform } from '../store/image/platform.ts';
import type { Place } from './place.ts';

export interface ListedImage {
  /** As people write it; absent: it has no name. */
  readonly reference?: string;
  readonly digest: Digest;
  /** What its registry has under the name. */
  readonly sourceDigest: Digest;
  readonly platform?: Platform;
  readonly created?: string;
  /** Of the unpacked layers. */
  readonly bytes?: number;
}

/** The images that have a name, by name. Reads one file. */
export function listImages(place: Place): readonly ListedImage[] {
  const images = readNames(storeDir(place.env)).map(
    ({ reference, descriptor, created, bytes, source }): ListedImage => ({
      ...(reference === undefined ? {} : { reference: familiarText(reference) }),
      digest: descriptor.digest,
      sourceDigest: source ?? descriptor.digest,
      ...(descriptor.platform === undefined ? {} : { platform: descriptor.platform }),
      ...(created === undefined ? {} : { created }),
      ...(bytes === undefined ? {} : { bytes }),
    }),
  );
  return images.sort((a, b) => compare(a.reference ?? '\uffff', b.reference ?? '\uffff'));
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** A platform that is not the host's; else nothing. */
export const otherPlatform = (platform: Platform | undefined): string => {
  const text = platform === undefined ? '' : formatPlatform(platform);
  return text === formatPlatform(hostPlatform) ? '' : text;
};

export { familiarText };
