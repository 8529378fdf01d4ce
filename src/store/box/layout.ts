import { join } from 'node:path';
import type { BoxKind } from './recipe.ts';

/** Names of what a part of a box holds. docs/boxes.md describes them. */
export const partFiles = {
  metadata: 'box.json',
  rootfs: 'rootfs',
  disk: 'disk.raw',
  kernel: 'kernel',
  initrd: 'initrd',
} as const;

export interface PartPaths {
  /** `STORE/boxes/NAME` */
  readonly boxDir: string;
  /** Folder name of the finished part inside `boxDir`. */
  readonly part: string;
  /** What the names of unfinished ones start with. */
  readonly unfinished: string;
  readonly lock: string;
  readonly log: string;
}

/** Where one part of a box lies in the store. Pure. */
export function partPaths(store: string, name: string, kind: BoxKind, digest: string): PartPaths {
  const boxDir = join(store, 'boxes', name);
  const part = `${kind}-${digest.slice(0, 16)}`;
  return {
    boxDir,
    part,
    unfinished: `.building-${part}.`,
    lock: join(boxDir, `.lock-${part}`),
    log: join(boxDir, `${kind}.log`),
  };
}
