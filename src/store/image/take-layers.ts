import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { TsvError } from '../../model/errors.ts';
import type { Descriptor, Digest, ImageConfig, Manifest } from '../../model/image.ts';
import type { UserMap } from '../../sys/userns.ts';
import type { ContentStore, Tap } from '../content/store.ts';
import type { RemoteFile } from '../download/remote.ts';
import { layerFolder, layerNames, layersFolder, readLayerNote } from '../layer/layout.ts';
import { type LayerBlob, type LayerSink, Unpacker } from '../layer/unpacker.ts';
import { layerCompression } from './media-types.ts';

/** Downloads at once: registries slow down whoever asks for more. */
const fetches = 4;

export interface TakeLayersOptions {
  readonly store: string;
  readonly map: UserMap;
  readonly unpackProgram: string;
  readonly signal: AbortSignal;
  /** Bytes of all blobs, and layers that are there. */
  progress(done: { readonly layers: number; readonly bytes: number; readonly totalBytes: number }): void;
  notice?(text: string): void;
  blob(descriptor: Descriptor): RemoteFile;
}

/** The blobs of one diff id: the same tar may be packed in several ways. */
interface Layer {
  readonly diffId: Digest;
  readonly blobs: readonly Descriptor[];
}

/**
 * Gets the blobs of all layers and unpacks them while they arrive: a few at a time, those from below first. A layer that
 * is unpacked already is not unpacked again; its blob comes all the same, so that the image can be saved and pushed.
 * The first failure ends the others, which leave nothing but what a later pull goes on from.
 */
export async function takeLayers(
  content: ContentStore,
  manifest: Manifest,
  config: ImageConfig,
  options: TakeLayersOptions,
): Promise<void> {
  const { store, map } = options;
  const layers = layersOf(manifest, config);
  const missing = layers.filter(({ diffId }) => layerFolder(store, map, diffId) === undefined);
  if (missing.length === 0 && layers.every(({ blobs }) => blobs.every((blob) => content.has(blob)))) return;

  const abort = new AbortController();
  const signal = AbortSignal.any([options.signal, abort.signal]);
  const folder = layersFolder(store, map);
  const unpacker =
    missing.length === 0 ? undefined : await Unpacker.open({ map, folder, program: options.unpackProgram, signal });
  const report = counter(layers, options);
  const task: LayerTask = { ...options, content, signal, unpacker, unpacking: { now: 0 }, report };
  const waiting = [...layers];
  let failure: { readonly error: unknown } | undefined;
  const worker = async (): Promise<void> => {
    for (let layer = waiting.shift(); layer !== undefined && failure === undefined; layer = waiting.shift()) {
      try {
        await takeLayer(layer, task);
      } catch (error) {
        failure ??= { error }; // the others' are only the end that this one puts to them
        abort.abort();
      }
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(fetches, layers.length) }, worker));
  } finally {
    await unpacker?.close();
  }
  if (failure !== undefined) throw failure.error;
}

function layersOf(manifest: Manifest, config: ImageConfig): readonly Layer[] {
  const blobs = new Map<Digest, Descriptor[]>();
  for (const [index, layer] of manifest.layers.entries()) {
    const diffId = config.diffIds[index];
    if (diffId === undefined) continue; // the config has as many: parseConfig
    const known = blobs.get(diffId) ?? [];
    if (!known.some(({ digest }) => digest === layer.digest)) known.push(layer);
    blobs.set(diffId, known);
  }
  return [...blobs].map(([diffId, all]) => ({ diffId, blobs: all }));
}

interface LayerTask extends TakeLayersOptions {
  readonly content: ContentStore;
  readonly unpacker: Unpacker | undefined;
  /** Layers that have a process or wait for one. */
  readonly unpacking: { now: number };
  readonly report: Report;
}

async function takeLayer({ diffId, blobs }: Layer, task: LayerTask): Promise<void> {
  const [first, ...others] = blobs;
  if (first === undefined) return;
  await takeAndUnpack(first, { diffId, compression: layerCompression(first.mediaType) }, task);
  for (const blob of others) await ingest(blob, task);
  task.report.layer();
}

async function takeAndUnpack(blob: Descriptor, layer: LayerBlob, task: LayerTask): Promise<void> {
  const { unpacker, unpacking, store, map } = task;
  if (unpacker === undefined || layerFolder(store, map, layer.diffId) !== undefined) return ingest(blob, task);
  // With all processes busy the bytes need not wait for one: they are unpacked from the disk.
  if (unpacking.now >= availableParallelism()) await ingest(blob, task);
  unpacking.now += 1;
  const tap = new LayerTap(() => unpacker.layer(layer));
  try {
    await tap.begin();
    await ingest(blob, task, tap);
    const skipped = await tap.finish();
    for (const text of skipped) task.notice?.(`left out of the layer ${layer.diffId.slice(7, 19)}: ${text}`);
  } catch (error) {
    await tap.abandon();
    throw error;
  } finally {
    unpacking.now -= 1;
  }
}

async function ingest(blob: Descriptor, task: LayerTask, tap?: LayerTap): Promise<void> {
  await task.content.ingest(blob, task.blob(blob), {
    signal: task.signal,
    progress: (done) => task.report.blob(blob.digest, done),
    ...(tap === undefined ? {} : { tap }),
  });
  task.report.blob(blob.digest, blob.size);
}

/**
 * Gives the bytes of a blob to the process that unpacks it. Without one (somebody else has unpacked it) they go by; so do
 * those behind a place that cannot be unpacked: whether the bytes or the image are wrong is known only at their end.
 */
class LayerTap implements Tap {
  readonly #open: () => Promise<LayerSink | undefined>;
  #sink: LayerSink | undefined;
  #refused: TsvError | undefined;

  constructor(open: () => Promise<LayerSink | undefined>) {
    this.#open = open;
  }

  async begin(): Promise<void> {
    this.#refused = undefined;
    this.#sink = await this.#open();
  }

  async write(bytes: Uint8Array): Promise<void> {
    try {
      await this.#sink?.write(bytes);
    } catch (error) {
      if (!(error instanceof TsvError) || error.code !== 'TSV_IMAGE') throw error;
      this.#refused = error;
      await this.abandon();
    }
  }

  async restart(): Promise<void> {
    await this.abandon();
    await this.begin();
  }

  /** To be called when all bytes were right. @returns what was left out of the layer */
  async finish(): Promise<readonly string[]> {
    if (this.#refused !== undefined) throw this.#refused;
    const sink = this.#sink;
    this.#sink = undefined;
    return (await sink?.finish())?.skipped ?? [];
  }

  async abandon(): Promise<void> {
    const sink = this.#sink;
    this.#sink = undefined;
    await sink?.abandon();
  }
}

interface Report {
  blob(digest: Digest, done: number): void;
  layer(): void;
}

function counter(layers: readonly Layer[], { progress }: TakeLayersOptions): Report {
  const sizes = new Map(layers.flatMap(({ blobs }) => blobs.map(({ digest, size }) => [digest, size])));
  const totalBytes = [...sizes.values()].reduce((sum, size) => sum + size, 0);
  const done = new Map<Digest, number>();
  let complete = 0;
  const say = () =>
    progress({ layers: complete, bytes: [...done.values()].reduce((sum, size) => sum + size, 0), totalBytes });
  return {
    blob(digest, bytes) {
      done.set(digest, Math.max(bytes, done.get(digest) ?? 0)); // unpacking from the disk counts no byte twice
      say();
    },
    layer() {
      complete += 1;
      say();
    },
  };
}

/** Bytes of the unpacked layers of an image, each once. */
export function unpackedBytes(store: string, map: UserMap, diffIds: readonly Digest[]): number {
  const folder = layersFolder(store, map);
  return [...new Set(diffIds)].reduce(
    (sum, diffId) => sum + (readLayerNote(join(folder, layerNames(diffId).final))?.bytes ?? 0),
    0,
  );
}
