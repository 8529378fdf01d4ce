import { type FSWatcher, watch } from 'node:fs';
import { TsvError } from '../model/errors.ts';
import type { ProcessRef } from '../model/state.ts';
import { watchExit } from '../sys/children.ts';

/** Waits for changes of folders (inotify(7)) and for ends of processes. What comes while nobody waits is not lost. */
export class Watch {
  readonly #folders = new Map<string, FSWatcher>();
  readonly #processes = new Map<number, () => void>();
  #rung = false;
  #onRing: (() => void) | undefined;

  /** Something may have changed. */
  ring(): void {
    this.#rung = true;
    this.#onRing?.();
  }

  /** Resolves at the first ring since the last wait. */
  async wait(): Promise<void> {
    if (!this.#rung)
      await new Promise<void>((resolve) => {
        this.#onRing = resolve;
      });
    this.#onRing = undefined;
    this.#rung = false;
  }

  /**
   * Rings at every change in a folder; a watch of one that had this path before ends. Not there: success.
   * @param onChange called before it rings, with the name in the folder; it does not ring for a name that gives false
   * @throws TSV_HOST_MISSING when this user watches as much as it may
   */
  folder(path: string, onChange: (name: string) => unknown = () => {}): void {
    this.#folders.get(path)?.close();
    this.#folders.delete(path);
    const changed = (name: string | null): void => {
      if (name === null || onChange(name) !== false) this.ring();
    };
    try {
      const watcher = watch(path, (_, name) => changed(name));
      watcher.on('error', () => this.ring()); // the folder is gone: the next look tells
      this.#folders.set(path, watcher);
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      if (code === 'ENOENT') return;
      if (code !== 'ENOSPC' && code !== 'EMFILE') throw cause;
      const setting = code === 'ENOSPC' ? 'max_user_watches=524288' : 'max_user_instances=1024';
      throw new TsvError('TSV_HOST_MISSING', 'this user already watches as many files as the kernel allows', {
        details: [path],
        hint: `sudo sysctl fs.inotify.${setting}`,
        cause,
      });
    }
  }

  /** Rings when the process ends, after `onExit`. */
  process(ref: ProcessRef, onExit: () => void = () => {}): void {
    if (this.#processes.has(ref.pid)) return;
    const { exited, forget } = watchExit(ref.pid);
    this.#processes.set(ref.pid, forget);
    void exited.then(() => {
      this.#processes.delete(ref.pid);
      onExit();
      this.ring();
    });
  }

  close(): void {
    for (const watcher of this.#folders.values()) watcher.close();
    for (const forget of this.#processes.values()) forget();
  }
}
