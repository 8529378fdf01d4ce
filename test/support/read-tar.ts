import { type TarEntry, TarReader } from '../../src/tar/reader.ts';

export interface ReadEntry extends TarEntry {
  /** With zeros for holes. */
  readonly content: Buffer;
}

/** All of an archive, given in pieces of `pieceBytes`. */
export function readTar(archive: Buffer, pieceBytes = archive.length): ReadEntry[] {
  const entries: ReadEntry[] = [];
  let current: { entry: TarEntry; parts: { bytes: Buffer; offset: number }[] } | undefined;
  const reader = new TarReader({
    entry: (entry) => {
      current = { entry, parts: [] };
    },
    data: (bytes, offset) => {
      current?.parts.push({ bytes: Buffer.from(bytes), offset });
    },
    entryEnd: () => {
      if (current === undefined) return;
      const content = Buffer.alloc(current.entry.size);
      if (current.entry.type === 'file') for (const { bytes, offset } of current.parts) content.set(bytes, offset);
      entries.push({ ...current.entry, content });
      current = undefined;
    },
  });
  for (let at = 0; at < archive.length; at += pieceBytes) reader.push(archive.subarray(at, at + pieceBytes));
  reader.end();
  return entries;
}
