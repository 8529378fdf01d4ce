import { closeSync, openSync, readSync } from 'node:fs';
import { basename } from 'node:path';
import type { Descriptor, Digest, Platform } from '../../../model/image.ts';
import { digestOf, hasher } from '../../content/digest.ts';
import { localFile } from '../../download/local.ts';
import { formatReference, parseReference } from '../../registry/reference.ts';
import { parseDocument, readDescriptor } from '../documents.ts';
import { Fields, parseObject } from '../fields.ts';
import { kindOf, mediaTypes } from '../media-types.ts';
import { candidates, noSuchPlatform } from '../platform.ts';
import type { ImageToTake } from '../take.ts';
import { type Member, type Members, notAnArchive, readMember } from './members.ts';

/** One image of an archive; the same image under several names is there several times. */
export type ArchivedImage = Omit<ImageToTake, 'wanted'>;

/** The images of an archive in the format that its files show: an image layout, or what `docker save` makes. @throws TSV_IMAGE */
export function imagesOf(members: Members, wanted: Platform): readonly ArchivedImage[] {
  if (members.get('index.json') !== undefined) return layoutImages(members, wanted);
  if (members.get('manifest.json') !== undefined) return dockerImages(members);
  throw notAnArchive(members.source, 'neither index.json nor manifest.json is in it');
}

/** image-layout.md: an index whose entries are manifests, or indexes of which one manifest is for us. */
function layoutImages(members: Members, wanted: Platform): readonly ArchivedImage[] {
  const index = parseObject(readMember(members, 'index.json') ?? Buffer.alloc(0), 'index.json');
  const what = 'index.json';
  const entries = (index.objects('manifests', 100_000) ?? []).map((entry) => readDescriptor(entry, what));
  const images = entries.flatMap((entry) => {
    const reference = nameOf(entry, members.source);
    const shown = reference ?? entry.digest;
    const chosen = chooseFrom(members, entry, wanted, shown);
    return chosen === undefined
      ? []
      : [{ ...chosen, shown, ...(reference === undefined ? {} : { reference }), blob: blobOf(members) }];
  });
  if (images.length > 0) return images;
  throw notAnArchive(members.source, 'it holds no image');
}

/** The manifest that an entry of index.json leads to; undefined where the entry is no image (a signature, a chart). */
function chooseFrom(
  members: Members,
  entry: Descriptor,
  wanted: Platform,
  shown: string,
): Pick<ArchivedImage, 'descriptor' | 'bytes' | 'source'> | undefined {
  if (kindOf(entry.mediaType) === undefined) return undefined;
  let descriptor = entry;
  for (let depth = 0; depth < 4; depth++) {
    const bytes = readMember(members, blobName(descriptor.digest));
    if (bytes === undefined) throw notAnArchive(members.source, `the manifest ${descriptor.digest} is not in it`);
    checkBytes(members, descriptor, bytes);
    const document = parseDocument(bytes, descriptor.mediaType);
    if (document.kind === 'manifest') {
      return { descriptor, bytes, ...(descriptor === entry ? {} : { source: entry.digest }) };
    }
    const there = document.manifests.filter(({ digest }) => members.get(blobName(digest)) !== undefined);
    const [best] = candidates(there, wanted);
    if (best === undefined)
      throw noSuchPlatform(
        shown,
        wanted,
        there.flatMap(({ platform }) => (platform === undefined ? [] : [platform])),
      );
    descriptor = best;
  }
  throw notAnArchive(members.source, 'an index of indexes without end');
}

function checkBytes(members: Members, { digest, size }: Descriptor, bytes: Buffer): void {
  const hash = hasher(digest);
  hash.update(bytes);
  if (bytes.length === size && hash.digest() === digest) return;
  throw notAnArchive(members.source, `${digest} is damaged: it has other bytes`);
}

const blobName = (digest: Digest): string => `blobs/${digest.replace(':', '/')}`;

const blobOf = (members: Members) => (descriptor: Descriptor) => {
  const member = members.get(blobName(descriptor.digest));
  if (member === undefined) throw notAnArchive(members.source, `the blob ${descriptor.digest} is not in it`);
  return localFile(member.path);
};

/**
 * The name of an entry of index.json, in full: containerd's annotation, or the standard one. That may be a tag alone
 * (`umoci`, `skopeo copy oci:FOLDER:TAG`): the image is then called after the file, `localhost/FILE:TAG`.
 */
export function nameOf({ annotations = {} }: Pick<Descriptor, 'annotations'>, source: string): string | undefined {
  const text = annotations['io.containerd.image.name'] ?? annotations['org.opencontainers.image.ref.name'];
  if (text === undefined || text === '') return undefined;
  return asReference(/[/:]/.test(text) ? text : `localhost/${fileWord(source)}:${text}`);
}

function asReference(text: string): string | undefined {
  try {
    return formatReference(parseReference(text));
  } catch {
    return undefined; // a name of another kind: the image comes without one
  }
}

const fileWord = (source: string): string =>
  basename(source)
    .toLowerCase()
    .replace(/\.(?:tar|tgz|gz|oci)(?=\.|$)/g, '')
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '') || 'loaded';

/** `docker save`: manifest.json lists configs, names and layers; the manifest of each image is made here. */
function dockerImages(members: Members): readonly ArchivedImage[] {
  const what = 'manifest.json';
  const list: unknown = parseList(members, what);
  if (!Array.isArray(list) || list.length === 0) throw notAnArchive(members.source, 'manifest.json lists no image');
  return list.flatMap((item: unknown, index): ArchivedImage[] => {
    const fields = new Fields(item, what, `[${index}]`);
    const configName = fields.text('Config');
    const config = configName === undefined ? undefined : readMember(members, configName);
    if (config === undefined) throw notAnArchive(members.source, 'the config of an image is not in it');
    const layers = (fields.texts('Layers', 500) ?? []).map((name) => layerOf(members, name));
    const files = new Map<Digest, string>(layers.map(({ descriptor, path }) => [descriptor.digest, path]));
    const configDescriptor = { mediaType: mediaTypes.config, digest: digestOf(config), size: config.length };
    const manifest = {
      schemaVersion: 2,
      mediaType: mediaTypes.manifest,
      config: configDescriptor,
      layers: layers.map(({ descriptor }) => descriptor),
    };
    const bytes = Buffer.from(JSON.stringify(manifest));
    const descriptor = { mediaType: mediaTypes.manifest, digest: digestOf(bytes), size: bytes.length };
    const blob = ({ digest }: Descriptor) =>
      localFile(files.get(digest) ?? members.get(configName ?? '')?.path ?? members.source);
    const names = (fields.texts('RepoTags', 10_000) ?? []).map(asReference).filter((name) => name !== undefined);
    const common = { descriptor, bytes, blob };
    return names.length === 0
      ? [{ ...common, shown: configDescriptor.digest }]
      : names.map((reference) => ({ ...common, reference, shown: reference }));
  });
}

function parseList(members: Members, name: string): unknown {
  try {
    return JSON.parse((readMember(members, name) ?? Buffer.alloc(0)).toString('utf8'));
  } catch (cause) {
    if (cause instanceof SyntaxError) throw notAnArchive(members.source, `${name} is no JSON`, cause);
    throw cause;
  }
}

function layerOf(members: Members, name: string): { descriptor: Descriptor; path: string } {
  const member = members.get(name);
  if (member === undefined) throw notAnArchive(members.source, `the layer ${name.slice(0, 200)} is not in it`);
  const packing = { gzip: '+gzip', zstd: '+zstd', none: '' }[packingOf(member)];
  return {
    descriptor: { mediaType: `${mediaTypes.layer}${packing}`, digest: member.digest(), size: member.size },
    path: member.path,
  };
}

function packingOf({ path }: Member): 'gzip' | 'zstd' | 'none' {
  const head = Buffer.alloc(4);
  const fd = openSync(path, 'r');
  try {
    readSync(fd, head, 0, 4, 0);
  } finally {
    closeSync(fd);
  }
  if (head.readUInt16BE() === 0x1f8b) return 'gzip';
  return head.readUInt32LE() === 0xfd2fb528 ? 'zstd' : 'none';
}
