import { type FSWatcher, statSync, watch } from 'node:fs';
import { TsvError } from '../model/errors.ts';
import type { ProcessRef } from '../model/state.ts';
import { readHolder } from '../state/lock.ts';
import { projectPaths, stateDirName, stateFiles } from '../state/paths.ts';
import { readState } from '../state/store.ts';
import { watchExit } from '../sys/children.ts';
import { keeperOf } from '../sys/keeper-of.ts';
import { bootId, isAlive } from '../sys/process.ts';
import { findProjectDir, type Place, tsfileNames } from './place.ts';
import { type ProjectStatus, projectStatus } from './status.ts';

/** What is shown: the status, or why there is none to show right now (a Tsfile that is being written). */
export type Look = { readonly status: ProjectStatus } | { readonly error: unknown };

/** In the project's folder and in its state folder: what a status is made of. */
const tsfiles = [stateDirName, ...tsfileNames, '.env'];
const stateFilesSeen = [stateFiles.state, stateFiles.lockHolder, stateFiles.tsfileNote];

/**
 * Shows the status now, and again whenever it has become another: when a file that it is made of changes (inotify(7)), and
 * when a process that it speaks of ends (pidfd_open(2)). Nothing is asked again and again.
 * @returns what ends it
 * @throws what {@link projectStatus} throws at the first look
 */
export async function watchStatus(place: Place, show: (look: Look) => void): Promise<() => void> {
  const watched = new Watched(findProjectDir(place), () => next());
  let last = '';
  let looking = false;
  let again = false;
  const look = async (): Promise<void> => {
    // Before it is read: what changes from now on is heard of.
    watched.folders();
    const status = await projectStatus(place);
    watched.processes();
    const text = JSON.stringify(status);
    if (text !== last) show({ status });
    last = text;
  };
  /** One look at a time; what happens meanwhile leads to one more. */
  const next = (): void => {
    again = true;
    if (looking || watched.isClosed) return;
    looking = true;
    void (async () => {
      while (again && !watched.isClosed) {
        again = false;
        try {
          await look();
        } catch (error) {
          last = '';
          show({ error });
        }
      }
      looking = false;
    })();
  };
  looking = true;
  try {
    await look();
  } catch (error) {
    watched.close();
    throw error;
  }
  looking = false;
  if (again) next();
  return () => watched.close();
}

/** The folders and processes of a project, each heard of once. */
class Watched {
  readonly #dir: string;
  readonly #changed: () => void;
  #project: FSWatcher | undefined;
  #state: { readonly watcher: FSWatcher; readonly inode: number } | undefined;
  /** By pid and start time: what ends the waiting. */
  readonly #processes = new Map<string, () => void>();
  isClosed = false;

  constructor(dir: string, changed: () => void) {
    this.#dir = dir;
    this.#changed = changed;
  }

  folders(): void {
    this.#project ??= this.#watch(this.#dir, tsfiles);
    const { stateDir } = projectPaths(this.#dir);
    const inode = statSync(stateDir, { throwIfNoEntry: false })?.ino;
    if (inode === this.#state?.inode) return;
    this.#state?.watcher.close();
    this.#state = undefined;
    if (inode === undefined) return;
    try {
      this.#state = { watcher: this.#watch(stateDir, stateFilesSeen), inode };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error; // removed: its folder tells
    }
  }

  processes(): void {
    const state = readState(this.#dir);
    const holder = readHolder(this.#dir);
    const machines = Object.values(state?.machines ?? {}).flatMap((machine) => machine.process ?? []);
    const refs = [
      state?.sandbox?.holder,
      ...machines,
      // It ends last, when it has written how its machine ended.
      ...machines.filter(isAlive).map(({ pid }) => keeperOf(pid)),
      holder && { pid: holder.pid, startTime: holder.startTime, bootId: bootId() },
    ];
    for (const ref of refs) if (isAlive(ref)) this.#wait(ref);
  }

  close(): void {
    this.isClosed = true;
    this.#project?.close();
    this.#state?.watcher.close();
    for (const forget of this.#processes.values()) forget();
  }

  #watch(folder: string, names: readonly string[]): FSWatcher {
    const watcher = startWatch(folder, (name) => {
      if (name === null || names.includes(name)) this.#changed();
    });
    watcher.on('error', () => this.#changed()); // the folder is gone: the next look tells
    return watcher;
  }

  #wait(ref: ProcessRef): void {
    const key = `${ref.pid}/${ref.startTime}`;
    if (this.#processes.has(key)) return;
    const { exited, forget } = watchExit(ref.pid);
    this.#processes.set(key, forget);
    void exited.then(() => {
      this.#processes.delete(key);
      if (!this.isClosed) this.#changed();
    });
  }
}

/** @throws TSV_HOST_MISSING when this user watches as much as it may (inotify(7)) */
function startWatch(folder: string, changed: (name: string | null) => void): FSWatcher {
  try {
    return watch(folder, (_, name) => changed(name));
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code !== 'ENOSPC' && code !== 'EMFILE') throw cause;
    const setting = code === 'ENOSPC' ? 'max_user_watches=524288' : 'max_user_instances=1024';
    throw new TsvError('TSV_HOST_MISSING', 'this user already watches as many files as the kernel allows', {
      details: [folder],
      hint: `sudo sysctl fs.inotify.${setting}`,
      cause,
    });
  }
}
