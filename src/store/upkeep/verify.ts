import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Digest } from '../../model/image.ts';
import type { UserMap } from '../../sys/userns.ts';
import { forgetLayer } from '../cache/layout.ts';
import { ContentStore } from '../content/store.ts';
import { progressTeller } from '../download/progress.ts';
import { imagesFolder } from '../image/layout.ts';
import type { NamedImage } from '../image/names.ts';
import { familiarText } from '../image/names.ts';
import { readImage } from '../image/read.ts';
import { templateFiles } from '../template/layout.ts';
import { disown, listTemplates, whyUnusable } from '../template/template.ts';
import { type StoredCacheLayer, storedCache } from './cache.ts';
import { takeInventory } from './inventory.ts';

export interface Problem {
  /** What is wrong, with the names of what it concerns. */
  readonly text: string;
  /** The command that mends it. */
  readonly mend: string;
}

export interface Verification {
  readonly blobs: number;
  readonly bytes: number;
  readonly layers: number;
  /** Of the provision cache. */
  readonly provisionLayers: number;
  readonly images: number;
  readonly problems: readonly Problem[];
}

/**
 * Hashes every blob, and looks whether every name leads to a whole image and every unpacked layer is complete. A blob with
 * other bytes than its digest says is removed: nothing can use it, and a pull brings it back only when it is gone. Templates
 * and the provision layers of virtual machines are hashed, too; of other layers it is seen whether they are there.
 */
export async function verifyStore(
  store: string,
  map: UserMap,
  options: { readonly signal: AbortSignal; progress(text: string): void },
): Promise<Verification> {
  const templates = await templateProblems(store, options.progress);
  const images = imagesFolder(store);
  const cache = storedCache(store, map);
  const layers = await cacheProblems(cache, options.progress);
  const provisioned = { provisionLayers: cache.length, problems: [...templates, ...layers] };
  if (!existsSync(images)) return { blobs: 0, bytes: 0, layers: 0, images: 0, ...provisioned };
  const content = ContentStore.open(images);
  const total = content.list().reduce((sum, blob) => sum + blob.bytes, 0);
  const damaged = new Set<Digest>();
  const tell = progressTeller();
  let blobs = 0;
  let bytes = 0;
  for await (const blob of content.verify(options.signal)) {
    blobs += 1;
    bytes += blob.bytes;
    options.progress(tell(bytes, total));
    if (blob.ok) continue;
    damaged.add(blob.digest);
    content.remove(blob.digest);
  }
  const inventory = takeInventory(store, map);
  const unpacked = new Set(inventory.layers.filter(({ complete }) => complete).map(({ diffId }) => diffId));
  const explained = new Set<Digest>();
  const problems = inventory.names.flatMap((name) => nameProblems(content, name, damaged, unpacked, explained));
  return {
    blobs,
    bytes,
    layers: inventory.layers.length,
    images: inventory.names.length,
    provisionLayers: provisioned.provisionLayers,
    problems: [
      ...problems,
      ...[...damaged]
        .filter((digest) => !explained.has(digest))
        .map((digest) => ({ text: `${digest}: other bytes; removed, no name needs it`, mend: 'nothing to do' })),
      ...inventory.layers
        .filter(({ complete }) => !complete)
        .map(({ path }) => ({ text: `${path}: the unpacked layer is not complete`, mend: 'tsv store gc' })),
      ...provisioned.problems,
    ],
  };
}

/** A damaged template is none from here on: machines boot cold, and make another one. */
async function templateProblems(store: string, progress: (text: string) => void): Promise<readonly Problem[]> {
  const problems: Problem[] = [];
  for (const { dir, box } of listTemplates(store)) {
    progress(`template of ${box}`);
    const why = await whyUnusable(dir, { thorough: true });
    if (why === undefined) continue;
    disown(dir);
    problems.push({ text: `${dir}: the template is not used any more: ${why}`, mend: `tsv box warm ${box}` });
  }
  return problems;
}

/**
 * No digest says what is to be in a container's layer: only what is missing can be seen. A virtual machine's is read; no new machine
 * is made from a damaged one, nor from what rests on it.
 */
async function cacheProblems(
  cache: readonly StoredCacheLayer[],
  progress: (text: string) => void,
): Promise<readonly Problem[]> {
  const names = new Set(cache.map(({ name }) => name));
  const problems: Problem[] = [];
  const tell = (path: string, wrong: string) =>
    problems.push({ text: `${path}: the provision layer ${wrong}`, mend: 'tsv store gc' });
  for (const { name, path, complete, lower, own } of cache) {
    const lacks = lower.find((below) => !names.has(below));
    if (!complete) tell(path, 'is not complete');
    else if (lacks !== undefined) tell(path, `rests on ${lacks}, which is gone`);
    else if (own && existsSync(join(path, templateFiles.metadata))) {
      progress(`layer ${name}`);
      const why = await whyUnusable(path, { thorough: true });
      if (why === undefined) continue;
      for (const other of cache) if (other.name === name || other.lower.includes(name)) forgetLayer(other.path);
      tell(path, `is not used any more: ${why}`);
    }
  }
  return problems;
}

function nameProblems(
  content: ContentStore,
  entry: NamedImage,
  damaged: ReadonlySet<Digest>,
  unpacked: ReadonlySet<Digest>,
  explained: Set<Digest>,
): Problem[] {
  const shown = entry.reference === undefined ? entry.descriptor.digest : familiarText(entry.reference);
  const mend =
    entry.reference === undefined ? 'load its archive again' : `tsv image pull ${shown}   (or load its archive again)`;
  const tell = (digest: Digest, what: string): Problem => {
    explained.add(digest);
    const why = damaged.has(digest) ? 'had other bytes than its digest says, and was removed' : 'is missing';
    return { text: `${shown}: ${what} ${why}: ${digest}`, mend };
  };
  const { digest } = entry.descriptor;
  if (damaged.has(digest) || !content.has(entry.descriptor)) return [tell(digest, 'its manifest')];
  try {
    const documents = readImage(content, entry.descriptor);
    if (documents === undefined) return [{ text: `${shown}: its config is missing or damaged`, mend }];
    const { manifest, config } = documents;
    return [
      ...manifest.layers.filter((layer) => !content.has(layer)).map((layer) => tell(layer.digest, 'a layer')),
      ...[...new Set(config.diffIds)]
        .filter((diffId) => !unpacked.has(diffId))
        .map((diffId) => ({ text: `${shown}: a layer is not unpacked: ${diffId}`, mend })),
    ];
  } catch (error) {
    return [{ text: `${shown}: ${(error as Error).message}`, mend }];
  }
}
