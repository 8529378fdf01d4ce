import { statSync } from 'node:fs';
import { readHolder } from '../state/lock.ts';
import { projectPaths, stateDirName, stateFiles } from '../state/paths.ts';
import { readState } from '../state/store.ts';
import { keeperOf } from '../sys/keeper-of.ts';
import { bootId, isAlive } from '../sys/process.ts';
import { findProjectDir, type Place, tsfileNames } from './place.ts';
import { type ProjectStatus, projectStatus } from './status.ts';
import { Watch } from './watch.ts';

/** What is shown: the status, or why there is none to show right now (a Tsfile that is being written). */
export type Look = { readonly status: ProjectStatus } | { readonly error: unknown };

/** In the project's folder and in its state folder: what a status is made of. */
const tsfiles: readonly string[] = [stateDirName, ...tsfileNames, '.env'];
const stateFilesSeen: readonly string[] = [stateFiles.state, stateFiles.lockHolder, stateFiles.tsfileNote];

/**
 * Shows the status now, and again whenever it has become another: when a file that it is made of changes (inotify(7)), and
 * when a process that it speaks of ends (pidfd_open(2)). Nothing is asked again and again.
 * @returns what ends it
 * @throws what {@link projectStatus} throws at the first look
 */
export async function watchStatus(place: Place, show: (look: Look) => void): Promise<() => void> {
  const dir = findProjectDir(place);
  const watch = new Watch();
  const watchStateFolder = stateFolderWatcher(dir, watch);
  let isClosed = false;
  let last = '';
  const close = (): void => {
    isClosed = true;
    watch.close();
    watch.ring();
  };
  const look = async (): Promise<void> => {
    // Before it is read: what changes from now on is heard of.
    watchStateFolder();
    const status = await projectStatus(place);
    watchProcesses(dir, watch);
    const text = JSON.stringify(status);
    if (text !== last && !isClosed) show({ status });
    last = text;
  };
  const goOn = async (): Promise<void> => {
    for (;;) {
      await watch.wait();
      if (isClosed) return;
      try {
        await look();
      } catch (error) {
        last = '';
        show({ error });
      }
    }
  };
  try {
    watch.folder(dir, (name) => tsfiles.includes(name));
    await look();
  } catch (error) {
    close();
    throw error;
  }
  void goOn();
  return close;
}

/** The state folder goes with the last machine, and another one may come. */
function stateFolderWatcher(dir: string, watch: Watch): () => void {
  const { stateDir } = projectPaths(dir);
  let watched: number | undefined;
  return () => {
    const inode = statSync(stateDir, { throwIfNoEntry: false })?.ino;
    if (inode === watched) return;
    watched = inode;
    watch.folder(stateDir, (name) => stateFilesSeen.includes(name));
  };
}

function watchProcesses(dir: string, watch: Watch): void {
  const state = readState(dir);
  const holder = readHolder(dir);
  const machines = Object.values(state?.machines ?? {}).flatMap((machine) => machine.process ?? []);
  const refs = [
    state?.sandbox?.holder,
    ...machines,
    // It ends last, when it has written how its machine ended.
    ...machines.filter(isAlive).map(({ pid }) => keeperOf(pid)),
    holder && { pid: holder.pid, startTime: holder.startTime, bootId: bootId() },
  ];
  for (const ref of refs) if (isAlive(ref)) watch.process(ref);
}
