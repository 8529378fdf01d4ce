import { createWriteStream, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { dirname, isAbsolute, join } from 'node:path';
import { Readable, type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { TsvError } from '../../../model/errors.ts';
import type { Descriptor, Digest } from '../../../model/image.ts';
import { type TarMember, tarArchive } from '../../../tar/writer.ts';
import type { ContentStore } from '../../content/store.ts';
import { familiar, parseReference } from '../../registry/reference.ts';
import { mediaTypes } from '../media-types.ts';
import type { ImageDocuments } from '../read.ts';

export const archiveFormats = ['oci-archive', 'docker-archive', 'oci-dir'] as const;
export type ArchiveFormat = (typeof archiveFormats)[number];

/** An image and the names that it has in the archive, in full. */
export interface ImageToSave {
  readonly documents: ImageDocuments;
  readonly references: readonly string[];
}

/** What of the store is read from a blob at a time: see {@link ContentStore.stream}. */
type Blobs = Pick<ContentStore, 'stream'>;

/** The files of an image layout (image-layout.md), those that a reader needs first in front. */
export function layoutMembers(images: readonly ImageToSave[], content: Blobs): readonly TarMember[] {
  const blobs = new Map<Digest, Descriptor>();
  for (const { documents } of images) {
    for (const blob of [documents.descriptor, documents.manifest.config, ...documents.manifest.layers])
      blobs.set(blob.digest, blob);
  }
  const manifests = images.flatMap(({ documents: { descriptor }, references }) =>
    (references.length === 0 ? [undefined] : references).map((name) => ({
      mediaType: descriptor.mediaType,
      digest: descriptor.digest,
      size: descriptor.size,
      ...(descriptor.platform === undefined ? {} : { platform: descriptor.platform }),
      // The second is containerd's and Docker's: to them the first is a tag alone.
      ...(name === undefined
        ? {}
        : { annotations: { 'org.opencontainers.image.ref.name': name, 'io.containerd.image.name': name } }),
    })),
  );
  return [
    textMember('oci-layout', { imageLayoutVersion: '1.0.0' }),
    textMember('index.json', { schemaVersion: 2, mediaType: mediaTypes.index, manifests }),
    // Podman and skopeo give a folder that they have to think of themselves to root, which only root can.
    ...['blobs/', ...new Set([...blobs.keys()].map((digest) => `blobs/${digest.slice(0, digest.indexOf(':'))}/`))].map(
      (name) => ({ name, size: 0, content: () => [] }),
    ),
    ...[...blobs.values()].map((blob) => ({
      name: `blobs/${blob.digest.replace(':', '/')}`,
      size: blob.size,
      content: () => content.stream(blob),
    })),
  ];
}

/**
 * The files of an archive as `docker save` made it before version 25. The layers are packed as they are in the store, which
 * Docker, Podman and skopeo all see for themselves.
 */
export function dockerMembers(images: readonly ImageToSave[], content: Blobs): readonly TarMember[] {
  const members = new Map<string, TarMember>();
  const add = (name: string, blob: Descriptor): string => {
    members.set(name, { name, size: blob.size, content: () => content.stream(blob) });
    return name;
  };
  const list = images.map(({ documents: { manifest }, references }) => ({
    Config: add(`${hexOf(manifest.config.digest)}.json`, manifest.config),
    RepoTags: references.flatMap(repoTag),
    Layers: manifest.layers.map((layer) => add(`${hexOf(layer.digest)}.tar`, layer)),
  }));
  return [...members.values(), textMember('manifest.json', list)];
}

/** Docker's names have tags only. */
function repoTag(reference: string): string[] {
  const { digest, ...named } = parseReference(reference);
  return named.tag === undefined ? [] : [familiar(named)];
}

/** At most what fits with its folder into a tar header. */
const hexOf = (digest: Digest): string => digest.slice(digest.indexOf(':') + 1).slice(0, 64);

function textMember(name: string, value: object): TarMember {
  const bytes = Buffer.from(JSON.stringify(value));
  return { name, size: bytes.length, content: () => [bytes] };
}

/** The archive into a pipe. @throws TSV_STORE when its reader has gone */
export async function savePipe(
  members: readonly TarMember[],
  to: { readonly name: string; readonly stream: Writable },
  signal: AbortSignal,
): Promise<void> {
  try {
    await writeArchive(members, to.stream, signal, false);
  } catch (error) {
    throw notWritten(to.name, error);
  }
}

const writeArchive = (members: readonly TarMember[], to: Writable, signal: AbortSignal, end: boolean): Promise<void> =>
  pipeline(Readable.from(tarArchive(members), { objectMode: false, highWaterMark: 1 << 20 }), to, { signal, end });

/** The archive under its name only when it is whole. @throws TSV_STORE */
export async function saveFile(members: readonly TarMember[], file: string, signal: AbortSignal): Promise<void> {
  const temporary = join(dirname(file), `.${process.pid}.tsv-save.tmp`);
  try {
    await writeArchive(members, createWriteStream(temporary, { mode: 0o644 }), signal, true);
    renameSync(temporary, file);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw notWritten(file, error);
  }
}

/** An image layout as a folder, which has to be new or empty. @throws TSV_EXISTS, TSV_STORE */
export async function saveFolder(members: readonly TarMember[], folder: string, signal: AbortSignal): Promise<void> {
  try {
    mkdirSync(folder, { recursive: true });
    if (readdirSync(folder).length > 0) {
      throw new TsvError('TSV_EXISTS', `${folder} is not empty`, { hint: 'name a folder that is not there yet' });
    }
    // index.json last: without it the folder is no image layout.
    for (const member of [...members].sort(
      (a, b) => Number(a.name === 'index.json') - Number(b.name === 'index.json'),
    )) {
      const file = join(folder, member.name);
      if (member.name.endsWith('/')) continue;
      mkdirSync(dirname(file), { recursive: true });
      await pipeline(Readable.from(member.content(), { objectMode: false }), createWriteStream(file), { signal });
    }
  } catch (error) {
    throw notWritten(folder, error);
  }
}

function notWritten(path: string, cause: unknown): unknown {
  const code = (cause as NodeJS.ErrnoException).code;
  if (cause instanceof TsvError || code === undefined || code === 'ABORT_ERR') return cause;
  return new TsvError('TSV_STORE', `${path} could not be written: ${(cause as Error).message}`, {
    ...(isAbsolute(path)
      ? { hint: `see that ${dirname(path)} is there, is yours, and has room (df -h ${dirname(path)})` }
      : {}),
    cause,
  });
}
