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
   * @param onChange called before it rings, with the name in the folder
   */
  folder(path: string, onChange: (name: string) => void = () => {}): void {
    this.#folders.get(path)?.close();
    this.#folders.delete(path);
    try {
      const watcher = watch(path, (_, name) => {
        onChange(name ?? '');
        this.ring();
      });
      watcher.on('error', () => this.ring());
      this.#folders.set(path, watcher);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT') return;
      throw new TsvError('TSV_SYSCALL', `${path} cannot be watched: ${message}`, {
        hint: 'see inotify(7): sysctl fs.inotify.max_user_watches fs.inotify.max_user_instances',
        cause: error,
      });
    }
  }

  /** Rings when the process ends, after `onExit`. */
  process(ref: ProcessRef, onExit: () => void): void {
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
