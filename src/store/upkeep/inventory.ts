import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Digest } from '../../model/image.ts';
import type { UserMap } from '../../sys/userns.ts';
import { readMetadata } from '../box/metadata.ts';
import { isDigest } from '../content/digest.ts';
import { ContentStore, type PartialDownload, type StoredBlob } from '../content/store.ts';
import { imageFiles, imagesFolder } from '../image/layout.ts';
import { type NamedImage, readNames } from '../image/names.ts';
import { describeManifest, readImage } from '../image/read.ts';
import { layerNames, layersFolder, readLayerNote } from '../layer/layout.ts';
import { templatesFolder } from '../template/layout.ts';
import { readTemplate } from '../template/template.ts';
import { cacheLeftovers, type StoredCacheLayer, storedCache } from './cache.ts';
import { mountedTrees } from './mounted.ts';

export interface StoredLayer {
  readonly diffId: Digest;
  /** The folder that overlayfs's tree is in. */
  readonly path: string;
  /** Of its files; 0 where its note cannot be read. */
  readonly bytes: number;
  /** For the user map of whoever asks. */
  readonly current: boolean;
  /** Made by whoever asks. */
  readonly own: boolean;
  readonly complete: boolean;
}

/** What a killed command left, and the lock that its successor would hold. */
export interface Leftover {
  readonly path: string;
  readonly lock: string;
}

export interface StoredBoxPart {
  readonly name: string;
  readonly kind: 'vm' | 'container';
  readonly digest: string;
  readonly path: string;
  readonly lock: string;
  readonly bytes: number;
}

export interface StoredTemplate {
  readonly path: string;
  readonly lock: string;
  /** Of the box that it was made of. */
  readonly boxDigest: string;
  /** Milliseconds since the epoch: when a machine last started from it, or it was made. */
  readonly usedAt: number;
  readonly bytes: number;
  /** false: it was damaged, and only its disk is still of use, where a machine's lies over it. */
  readonly whole: boolean;
}

/** All that a store holds. */
export interface Inventory {
  readonly names: readonly NamedImage[];
  readonly blobs: readonly StoredBlob[];
  readonly layers: readonly StoredLayer[];
  readonly partials: readonly PartialDownload[];
  readonly leftovers: readonly Leftover[];
  readonly boxes: readonly StoredBoxPart[];
  readonly templates: readonly StoredTemplate[];
  readonly cache: readonly StoredCacheLayer[];
  /** See {@link mountedTrees}. */
  readonly mounted: ReadonlySet<string>;
}

/** What an image consists of: its manifest's blobs with itself, and its unpacked layers. */
export interface Parts {
  readonly blobs: readonly Digest[];
  readonly diffIds: readonly Digest[];
}

export function takeInventory(store: string, map: UserMap): Inventory {
  const images = imagesFolder(store);
  const content = existsSync(images) ? ContentStore.open(images) : undefined;
  const boxes = boxFolders(store);
  return {
    names: readNames(store),
    blobs: content?.list() ?? [],
    layers: storedLayers(store, map),
    partials: content?.partials() ?? [],
    leftovers: [
      ...imageLeftovers(store),
      ...boxes.flatMap(({ leftovers }) => leftovers),
      ...templateLeftovers(store),
      ...cacheLeftovers(store),
    ],
    boxes: boxes.flatMap(({ parts }) => parts),
    templates: storedTemplates(store),
    cache: storedCache(store, map),
    mounted: mountedTrees(),
  };
}

/** undefined: the store does not have the image's documents. */
export function partsOf(store: string, digest: Digest): Parts | undefined {
  const content = ContentStore.open(imagesFolder(store));
  const descriptor = describeManifest(content, digest);
  const documents = descriptor && readImage(content, descriptor);
  if (documents === undefined) return undefined;
  const { manifest, config } = documents;
  return {
    blobs: [digest, manifest.config.digest, ...manifest.layers.map((layer) => layer.digest)],
    diffIds: config.diffIds,
  };
}

const list = (folder: string): string[] => {
  try {
    return readdirSync(folder);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EACCES') return [];
    throw error;
  }
};

function mapFolders(store: string): string[] {
  const layers = join(imagesFolder(store), imageFiles.layers);
  return list(layers).map((name) => join(layers, name));
}

function storedLayers(store: string, map: UserMap): StoredLayer[] {
  const current = basename(layersFolder(store, map));
  return mapFolders(store).flatMap((folder) =>
    list(folder).flatMap((name) => {
      const diffId = name.startsWith('sha512-') ? `sha512:${name.slice(7)}` : `sha256:${name}`;
      if (!isDigest(diffId)) return [];
      const path = join(folder, name);
      const note = noteOf(path);
      return [
        {
          diffId,
          path,
          bytes: note?.bytes ?? 0,
          current: basename(folder) === current,
          own: statSync(path, { throwIfNoEntry: false })?.uid === statSync(folder).uid && ownedByUs(folder),
          complete: note !== undefined,
        },
      ];
    }),
  );
}

const ownedByUs = (folder: string): boolean => statSync(folder).uid === process.getuid?.();

/** undefined: there is none, or it is torn. */
function noteOf(path: string): { bytes: number } | undefined {
  try {
    const note = readLayerNote(path);
    return note !== undefined && existsSync(join(path, 'fs')) ? { bytes: Number(note.bytes) || 0 } : undefined;
  } catch {
    return undefined;
  }
}

/** `.new.HEX.XXXXXX` of layers, and the folders of loads. Their locks: the layer's, and the store's own. */
function imageLeftovers(store: string): Leftover[] {
  const images = imagesFolder(store);
  const layers = mapFolders(store).flatMap((folder) =>
    list(folder).flatMap((name) => {
      const final = /^\.new\.((?:sha512-)?[0-9a-f]+)\./.exec(name)?.[1];
      return final === undefined ? [] : [{ path: join(folder, name), lock: join(folder, `.lock-${final}`) }];
    }),
  );
  const loads = list(images)
    .filter((name) => name.startsWith(imageFiles.scratch))
    .map((name) => ({ path: join(images, name), lock: join(images, imageFiles.lock) }));
  return [...layers, ...loads];
}

function boxFolders(store: string): { parts: StoredBoxPart[]; leftovers: Leftover[] }[] {
  const boxes = join(store, 'boxes');
  return list(boxes).map((name) => {
    const folder = join(boxes, name);
    const entries = list(folder);
    return {
      parts: entries.flatMap((part) => {
        const kind = /^(vm|container)-[0-9a-f]{16}$/.exec(part)?.[1];
        const path = join(folder, part);
        const metadata = kind === undefined ? undefined : readMetadata(path);
        if (metadata === undefined) return [];
        const lock = join(folder, `.lock-${part}`);
        return [{ name, kind: metadata.kind, digest: metadata.digest, path, lock, bytes: metadata.bytes }];
      }),
      leftovers: entries.flatMap((entry) => {
        const part = /^\.building-((?:vm|container)-[0-9a-f]{16})\./.exec(entry)?.[1];
        return part === undefined ? [] : [{ path: join(folder, entry), lock: join(folder, `.lock-${part}`) }];
      }),
    };
  });
}

function storedTemplates(store: string): StoredTemplate[] {
  const folder = templatesFolder(store);
  return list(folder).flatMap((name) => {
    const key = /^([0-9a-f]{32})\./.exec(name)?.[1];
    const path = join(folder, name);
    const stat = key === undefined ? undefined : statSync(path, { throwIfNoEntry: false });
    if (stat === undefined) return [];
    const template = readTemplate(path);
    return [
      {
        path,
        lock: join(folder, `.lock-${key}`),
        boxDigest: template?.boxDigest ?? '',
        usedAt: stat.mtimeMs,
        bytes: template?.bytes ?? 0,
        whole: template !== undefined,
      },
    ];
  });
}

function templateLeftovers(store: string): Leftover[] {
  const folder = templatesFolder(store);
  return list(folder).flatMap((name) => {
    const key = /^\.making-([0-9a-f]{32})\./.exec(name)?.[1];
    return key === undefined ? [] : [{ path: join(folder, name), lock: join(folder, `.lock-${key}`) }];
  });
}

/** Where the lock of an unpacked layer is. */
export const layerLock = ({ path, diffId }: StoredLayer): string => join(path, '..', layerNames(diffId).lock);
