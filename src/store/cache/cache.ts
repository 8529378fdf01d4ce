import { randomBytes } from 'node:crypto';
import {
  closeSync,
  fstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { TsvError } from '../../model/errors.ts';
import { mustRun } from '../../sys/command.ts';
import { tryLockExclusive } from '../../sys/flock.ts';
import { syncFolder } from '../../sys/sync-folder.ts';
import type { UserMap } from '../../sys/userns.ts';
import { withStore } from '../image/with-store.ts';
import {
  type CacheLayer,
  type CacheNote,
  cacheFiles,
  cacheFolder,
  currentLayers,
  forgetLayer,
  makingNames,
  namesIn,
  numberOf,
  readCacheLayers,
  readCacheNote,
} from './layout.ts';

interface Wait {
  readonly signal: AbortSignal;
  progress(text: string): void;
}

/** What steps have made of machines, for machines with the same steps. */
export class ProvisionCache {
  private readonly store: string;
  private readonly folder: string;

  /** Whoever makes layers is root of the ids of `map`: the host's, or that of the sandbox. */
  constructor(store: string, map: UserMap) {
    this.store = store;
    this.folder = cacheFolder(store, map);
  }

  /** Keys of the layers that a new machine can be made from. */
  keys(): ReadonlySet<string> {
    return new Set(this.current().keys());
  }

  private current(): ReadonlyMap<string, CacheLayer> {
    return currentLayers(readCacheLayers(this.folder));
  }

  /** Folders of layers, by their names. @throws TSV_CACHE when one is not there any more */
  folders(names: readonly string[]): readonly string[] {
    return names.map((name) => {
      const path = join(this.folder, name);
      if (readCacheNote(path) !== undefined) return path;
      throw new TsvError('TSV_CACHE', 'the store no longer has what this machine was made from', {
        details: [path],
        hint: 'tsv destroy and tsv up make the machine anew',
      });
    });
  }

  /**
   * Gives the names of a layer and of what it rests on, the uppermost first, to whoever writes down that a machine uses them;
   * none is removed meanwhile. @throws TSV_CACHE when it is not there any more
   */
  use<T>(key: string, wait: Wait, work: (names: readonly string[]) => Promise<T>): Promise<T> {
    return withStore(this.store, 'shared', wait, async () => {
      const layer = this.current().get(key);
      if (layer === undefined) {
        throw new TsvError('TSV_CACHE', 'a provisioned layer was removed from the store in this moment', {
          hint: 'tsv up makes the machine without it',
        });
      }
      const now = new Date();
      utimesSync(join(layer.path, cacheFiles.note), now, now);
      return work([layer.name, ...layer.lower]);
    });
  }

  /**
   * Makes a layer: whole or not at all. Somebody else makes it right now, or it is there: does nothing.
   * @param options `anew`: also where it is there; `fill`: puts into a folder what the layer is to hold
   * @throws what `fill` throws; TSV_STORE
   */
  async save(
    key: string,
    options: Omit<CacheNote, 'version' | 'holds' | 'bytes' | 'madeAt'> &
      Wait & { readonly anew: boolean; fill(folder: string): Promise<void> },
  ): Promise<void> {
    const { anew, fill, signal, progress, lower, project, machine, step } = options;
    mkdirSync(this.folder, { recursive: true, mode: 0o700 });
    const { unfinished, lock } = makingNames(key);
    const held = takeLock(join(this.folder, lock));
    if (held === undefined) return;
    try {
      if (!anew && this.current().has(key)) return;
      await this.removeUnfinished(unfinished);
      await withStore(this.store, 'shared', { signal, progress }, async () => {
        const target = mkdtempSync(join(this.folder, unfinished));
        try {
          await fill(target);
          const bytes = await diskUse(target);
          const about = { project, machine, step, madeAt: new Date().toISOString() };
          const note: CacheNote = { version: 1, lower, holds: readdirSync(target), bytes, ...about };
          writeFileSync(join(target, cacheFiles.note), `${JSON.stringify(note)}\n`, { mode: 0o600 });
          // All of it: a layer that is there is taken as it is ever after. In a process of its own, since it may take long.
          await mustRun(['sync', '-f', target], failure);
          signal.throwIfAborted();
          renameSync(target, join(this.folder, `${key}.${this.nextNumber(key)}.${randomBytes(4).toString('hex')}`));
          syncFolder(this.folder);
        } finally {
          await mustRun(['rm', '-rf', '--one-file-system', '--', target], failure);
        }
      });
    } finally {
      rmSync(join(this.folder, lock), { force: true });
      closeSync(held);
    }
  }

  /** What a killed maker of the same layer left. */
  private async removeUnfinished(unfinished: string): Promise<void> {
    const left = namesIn(this.folder).filter((name) => name.startsWith(unfinished));
    for (const name of left) await mustRun(['rm', '-rf', '--one-file-system', '--', join(this.folder, name)], failure);
  }

  private nextNumber(key: string): number {
    return (
      Math.max(0, ...readCacheLayers(this.folder).flatMap((layer) => (layer.key === key ? [numberOf(layer)] : []))) + 1
    );
  }

  /** No new machine is made from these layers; those that use them go on. */
  forget(keys: readonly string[]): void {
    const current = this.current();
    for (const key of keys) {
      const layer = current.get(key);
      if (layer !== undefined) forgetLayer(layer.path);
    }
  }
}

const failure = { code: 'TSV_STORE', message: 'the provision cache could not be written' } as const;

async function diskUse(folder: string): Promise<number> {
  const { stdout } = await mustRun(['du', '--summarize', '--block-size=1', folder], failure);
  return Number.parseInt(stdout, 10) || 0;
}

/** The lock file, which its last holder removes: what was locked must still be what the name stands for. undefined: it is held. */
function takeLock(path: string): number | undefined {
  for (;;) {
    const fd = openSync(path, 'a', 0o600);
    if (!tryLockExclusive(fd)) {
      closeSync(fd);
      return undefined;
    }
    if (statSync(path, { throwIfNoEntry: false })?.ino === fstatSync(fd).ino) return fd;
    closeSync(fd);
  }
}
