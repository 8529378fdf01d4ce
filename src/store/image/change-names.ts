import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { TsvError } from '../../model/errors.ts';
import { holdingLock } from '../held-lock.ts';
import { imageFiles, imagesFolder } from './layout.ts';
import { indexText, type NamedImage, readNames } from './names.ts';

/**
 * Changes index.json: one at a time, and whoever reads meanwhile, or after a kill, finds the old file or the new one.
 * @param change gets the entries as they are and returns them as they shall be
 * @throws TSV_STORE
 */
export async function changeNames(
  store: string,
  signal: AbortSignal,
  change: (names: readonly NamedImage[]) => readonly NamedImage[],
): Promise<void> {
  const folder = imagesFolder(store);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  await holdingLock(join(folder, imageFiles.indexLock), 'exclusive', { signal, waiting: () => {} }, async () => {
    const before = readNames(store);
    const after = change(before);
    if (after !== before) replaceFile(folder, imageFiles.index, indexText(after));
  });
}

function replaceFile(folder: string, name: string, text: string): void {
  // One writer at a time: what a killed one left is written over.
  const temporary = join(folder, `.${name}.tmp`);
  try {
    const fd = openSync(temporary, 'w', 0o600);
    try {
      writeFileSync(fd, text);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, join(folder, name));
    const self = openSync(folder, 'r');
    try {
      fsyncSync(self);
    } finally {
      closeSync(self);
    }
  } catch (cause) {
    rmSync(temporary, { force: true });
    throw new TsvError('TSV_STORE', `${join(folder, name)} could not be written: ${(cause as Error).message}`, {
      details: ['it is as it was before'],
      hint: `see that there is room (df -h ${folder}) and that the folder is yours`,
      cause,
    });
  }
}
