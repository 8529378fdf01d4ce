import { statSync } from 'node:fs';
import { TsvError } from '../../../model/errors.ts';
import type { Platform, StoredImage } from '../../../model/image.ts';
import type { UserMap } from '../../../sys/userns.ts';
import { imagesFolder } from '../layout.ts';
import { takeImage } from '../take.ts';
import { withStore } from '../with-store.ts';
import { imagesOf } from './contents.ts';
import { fileInput, folderMembers, type Members, withTarMembers } from './members.ts';

export interface LoadOptions {
  readonly store: string;
  readonly map: UserMap;
  readonly unpackProgram: string;
  readonly platform: Platform;
  readonly signal: AbortSignal;
  progress(text: string): void;
  notice?(text: string): void;
}

/**
 * Takes all images of an archive (an OCI image layout as a folder or a tar; what `docker save` makes; tars also with
 * gzip) into the store, under the names that they have in it.
 * @param source a path, or a stream with what it is called
 * @throws TSV_IMAGE, TSV_DIGEST, TSV_STORE, TSV_CANCELLED
 */
export async function loadImages(
  source: string | { readonly name: string; readonly input: AsyncIterable<Uint8Array> },
  options: LoadOptions,
): Promise<readonly { readonly named: boolean; readonly image: StoredImage }[]> {
  const { store, signal } = options;
  return withStore(store, 'shared', options, async () => {
    const take = async (members: Members) => {
      const loaded: { named: boolean; image: StoredImage }[] = [];
      for (const image of imagesOf(members, options.platform)) {
        const named = image.reference !== undefined;
        const stored = await takeImage(
          { ...image, blob: (descriptor) => image.blob(descriptor), wanted: options.platform },
          { ...options, mayRename: () => true, forMachines: false },
        );
        loaded.push({ named, image: stored });
      }
      return loaded;
    };
    if (typeof source === 'string' && isFolder(source)) return take(folderMembers(source));
    options.progress('reading the archive');
    const stream = typeof source === 'string' ? { name: source, input: fileInput(source) } : source;
    return withTarMembers(imagesFolder(store), stream, signal, take);
  });
}

function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch (cause) {
    throw new TsvError('TSV_USAGE', `${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
}
