import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { TsvError } from '../../model/errors.ts';
import { type Descriptor, type Digest, isDigest } from '../../model/image.ts';
import { familiar, parseReference } from '../registry/reference.ts';
import { readDescriptor } from './documents.ts';
import { type Fields, parseObject } from './fields.ts';
import { imageFiles, imagesFolder } from './layout.ts';
import { mediaTypes } from './media-types.ts';
import { formatPlatform } from './platform.ts';

/** Keys of annotations in index.json. Those of tsv are notes to show and to keep by; nothing is believed because of them. */
const keys = {
  name: 'org.opencontainers.image.ref.name',
  created: 'org.opencontainers.image.created',
  bytes: 'ts-vm.bytes',
  source: 'ts-vm.source-digest',
  machines: 'ts-vm.for-machines',
} as const;
const ownKeys: ReadonlySet<string> = new Set(Object.values(keys));

/** An entry of index.json: a manifest of the store, and what it is called. */
export interface NamedImage {
  /** In full, `docker.io/library/nginx:1.27`. Absent: it has no name, as after the load of an archive without any. */
  readonly reference?: string;
  readonly descriptor: Descriptor;
  /** RFC 3339, of the config. */
  readonly created?: string;
  /** Of the unpacked layers together. */
  readonly bytes?: number;
  /** What the registry had under this name: the digest of the manifest, or of the index that it is in. */
  readonly source?: Digest;
  /** It came because a machine needed it, not because somebody asked for it by hand: gc may remove it. */
  readonly forMachines: boolean;
}

/** The named images, in the order in which they came. Reads one file. @throws TSV_STORE when that cannot be read */
export function readNames(store: string): readonly NamedImage[] {
  let bytes: Buffer;
  try {
    bytes = readFileSync(join(imagesFolder(store), imageFiles.index));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw unreadable(store, (cause as Error).message, cause);
  }
  try {
    const fields = parseObject(bytes, 'index.json');
    return (fields.objects('manifests', 1_000_000) ?? []).map(readEntry);
  } catch (cause) {
    if (!(cause instanceof TsvError)) throw cause;
    throw unreadable(store, cause.details[0] ?? cause.message, cause);
  }
}

function readEntry(fields: Fields): NamedImage {
  const { annotations = {}, ...descriptor } = readDescriptor(fields, 'index.json');
  const reference = annotations[keys.name];
  const created = annotations[keys.created];
  const bytes = Number(annotations[keys.bytes] ?? Number.NaN);
  const source = annotations[keys.source];
  const others = Object.entries(annotations).filter(([key]) => !ownKeys.has(key));
  return {
    ...(reference === undefined ? {} : { reference }),
    descriptor: others.length === 0 ? descriptor : { ...descriptor, annotations: Object.fromEntries(others) },
    ...(created === undefined ? {} : { created }),
    ...(Number.isSafeInteger(bytes) && bytes >= 0 ? { bytes } : {}),
    ...(source === undefined || !isDigest(source) ? {} : { source }),
    forMachines: annotations[keys.machines] === 'true',
  };
}

/** `entries` with one more; it takes the place of the one with its name and platform, and of the same without a name. */
export function withName(entries: readonly NamedImage[], added: NamedImage): readonly NamedImage[] {
  const platform = ({ descriptor }: NamedImage) =>
    descriptor.platform === undefined ? '' : formatPlatform(descriptor.platform);
  const isReplaced = (entry: NamedImage): boolean =>
    entry.reference === undefined
      ? entry.descriptor.digest === added.descriptor.digest
      : entry.reference === added.reference && platform(entry) === platform(added);
  const place = entries.findIndex(isReplaced);
  const rest = entries.filter((entry) => !isReplaced(entry));
  return place === -1 ? [...rest, added] : [...rest.slice(0, place), added, ...rest.slice(place)];
}

/** The text of index.json. */
export const indexText = (names: readonly NamedImage[]): string =>
  `${JSON.stringify(
    {
      schemaVersion: 2,
      mediaType: mediaTypes.index,
      manifests: names.map(({ reference, descriptor, created, bytes, source, forMachines }) => ({
        mediaType: descriptor.mediaType,
        digest: descriptor.digest,
        size: descriptor.size,
        ...(descriptor.platform === undefined ? {} : { platform: descriptor.platform }),
        annotations: {
          ...descriptor.annotations,
          ...(reference === undefined ? {} : { [keys.name]: reference }),
          ...(created === undefined ? {} : { [keys.created]: created }),
          ...(bytes === undefined ? {} : { [keys.bytes]: String(bytes) }),
          ...(source === undefined ? {} : { [keys.source]: source }),
          ...(forMachines ? { [keys.machines]: 'true' } : {}),
        },
      })),
    },
    null,
    1,
  )}\n`;

function unreadable(store: string, why: string, cause: unknown): TsvError {
  return new TsvError('TSV_STORE', `${join(imagesFolder(store), imageFiles.index)} cannot be read`, {
    details: [why],
    hint: 'it lists the images that have a name: put {"schemaVersion":2,"manifests":[]} there, and pull them again',
    cause,
  });
}

/** A reference as people write it; what other programs wrote there as it is. */
export function familiarText(reference: string): string {
  try {
    return familiar(parseReference(reference));
  } catch {
    return reference;
  }
}
