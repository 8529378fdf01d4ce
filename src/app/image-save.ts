import type { Writable } from 'node:stream';
import { storeDir } from '../state/paths.ts';
import { ContentStore } from '../store/content/store.ts';
import {
  type ArchiveFormat,
  dockerMembers,
  type ImageToSave,
  layoutMembers,
  saveFile,
  saveFolder,
  savePipe,
} from '../store/image/archive/save.ts';
import { imagesFolder } from '../store/image/layout.ts';
import { withStore } from '../store/image/with-store.ts';
import { imageDocuments, type Work } from './image.ts';
import { oneStep } from './store.ts';

/** Writes images into an archive: a path, or a stream with what it is called. An image under two names is in it once. */
export async function saveImages(
  words: readonly string[],
  to: string | { readonly name: string; readonly stream: Writable },
  format: ArchiveFormat,
  { place, emit, signal, platform }: Work,
): Promise<void> {
  const store = storeDir(place.env);
  const archive = typeof to === 'string' ? to : to.name;
  await oneStep({ do: 'image.save', archive }, 'asked for', emit, signal, (progress) =>
    withStore(store, 'shared', { signal, progress }, async () => {
      const images = new Map<string, ImageToSave>();
      for (const word of words) {
        const { by, entry, documents } = imageDocuments(place, word, platform);
        const known = images.get(entry.descriptor.digest)?.references ?? [];
        // By its digest somebody means the image, not one of its names.
        const isNew = by === 'name' && entry.reference !== undefined && !known.includes(entry.reference);
        const own = isNew && entry.reference !== undefined ? [entry.reference] : [];
        images.set(entry.descriptor.digest, { documents, references: [...known, ...own] });
      }
      const content = ContentStore.open(imagesFolder(store));
      const members =
        format === 'docker-archive'
          ? dockerMembers([...images.values()], content)
          : layoutMembers([...images.values()], content);
      if (typeof to !== 'string') await savePipe(members, to, signal);
      else if (format === 'oci-dir') await saveFolder(members, to, signal);
      else await saveFile(members, to, signal);
    }),
  );
}
