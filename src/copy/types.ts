import type { PackRequest, UnpackRequest } from '../model/provider.ts';
import { type IdRange, idOutside } from '../sys/id-range.ts';

/** What the process that copies (copy-main.ts) is told. Its descriptor 3 is what stands for the root of all files. */
export type CopyJob = { readonly uids: readonly IdRange[]; readonly gids: readonly IdRange[] } & (
  | ({ readonly do: 'pack' } & Omit<PackRequest, 'through'>)
  | ({ readonly do: 'unpack' } & Omit<UnpackRequest, 'through'>)
);

/** Ids of files here as an archive has them, and back. */
export interface Ids {
  inside(kind: 'uid' | 'gid', id: number): number;
  /** undefined: nobody here has such an id. */
  outside(kind: 'uid' | 'gid', id: number): number | undefined;
}

/** user_namespaces(7): what an id that has no place in a map is shown as. */
const nobody = 65534;

export const mappedIds = (maps: { readonly uids: readonly IdRange[]; readonly gids: readonly IdRange[] }): Ids => ({
  inside: (kind, id) => {
    const range = maps[`${kind}s`].find(({ outside, count }) => id >= outside && id < outside + count);
    return range === undefined ? nobody : range.inside + id - range.outside;
  },
  outside: (kind, id) => idOutside(maps[`${kind}s`], id),
});

export const sameIds: Ids = { inside: (_, id) => id, outside: (_, id) => id };
