import { TsvError } from '../../model/errors.ts';
import { idOutside } from '../../sys/id-range.ts';
import type { UserMap } from '../../sys/userns.ts';
import { printable } from '../../tar/fields.ts';

/** What the image asks for is refused. */
export function refused(path: string, why: string): TsvError {
  return new TsvError('TSV_IMAGE', 'a layer of the image cannot be unpacked', {
    details: [`${printable(path) || '/'}: ${why}`],
    hint: 'the image was built wrong or tampered with: tell whoever publishes it',
  });
}

const pathMax = 4096;
const nameMax = 255;

/**
 * The parts of an entry's path, below the layer's folder; none for that folder itself. `..` goes up within the path, as
 * with Docker. Links in it are for the kernel to resolve. @throws TSV_IMAGE for what leads out, or is too long
 */
export function pathParts(path: string): string[] {
  if (path.length >= pathMax) throw refused(path, `a path of ${path.length} bytes; Linux takes ${pathMax - 1}`);
  if (path.includes('\0')) throw refused(path, 'a NUL byte in its name');
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue;
    if (part.length > nameMax) throw refused(path, `a name of ${part.length} bytes; Linux takes ${nameMax}`);
    if (part !== '..') parts.push(part);
    else if (parts.pop() === undefined) throw refused(path, 'its path leads out of the layer');
  }
  return parts;
}

/** image-spec, layer.md, Whiteouts: what the name of an entry says beyond being a name. */
export type Whiteout =
  /** Hides `name` of the layers below. */
  | { readonly hides: string }
  /** Hides all that the layers below have in this folder. */
  | 'folder'
  /** Of AUFS, for itself. */
  | 'ignored';

export function whiteoutOf(name: string): Whiteout | undefined {
  if (!name.startsWith('.wh.')) return undefined;
  if (name === '.wh..wh..opq') return 'folder';
  if (name.startsWith('.wh..wh.')) return 'ignored';
  const hidden = name.slice('.wh.'.length);
  if (hidden === '' || hidden === '.' || hidden === '..') throw refused(name, 'it hides nothing');
  return { hides: hidden };
}

/** Ids of an archive as the unpacking process has to give them: inside the sandbox's user namespace as they are. */
export interface Owners {
  /** @throws TSV_IMAGE for an id that the map does not have */
  uid(id: number, path: string): number;
  gid(id: number, path: string): number;
}

export function ownersOf(map: UserMap): Owners {
  const translate = (kind: 'uid' | 'gid') => {
    const ranges = kind === 'uid' ? map.uids : map.gids;
    return (id: number, path: string): number => {
      const outside = idOutside(ranges, id);
      if (outside !== undefined) return map.rooted ? outside : id;
      const last = Math.max(...ranges.map(({ inside, count }) => inside + count - 1));
      throw refused(path, `its ${kind} is ${id}, and the sandbox has the ids 0 to ${last}`);
    };
  };
  return { uid: translate('uid'), gid: translate('gid') };
}
