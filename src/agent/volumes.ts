import { rmSync } from 'node:fs';
import { TsvError } from '../model/errors.ts';
import type { Project } from '../model/project.ts';
import type { VolumeState } from '../model/state.ts';
import type { StateStore } from '../state/store.ts';
import { without } from './machines.ts';

/**
 * Which volumes a project has. Their folders are made by the containers that use them first, once the state knows them.
 */
export class ProjectVolumes {
  private readonly store: StateStore;
  private readonly folderOf: (name: string) => string;

  constructor(store: StateStore, folderOf: (name: string) => string) {
    this.store = store;
    this.folderOf = folderOf;
  }

  async ensure(name: string, project: Project | undefined): Promise<void> {
    const wanted = project?.volumes?.find((volume) => volume.name === name);
    if (wanted === undefined) throw new TsvError('TSV_INTERNAL', `the volume ${name} is not in the Tsfile`);
    await this.change(name, () => ({ keep: wanted.keep }));
  }

  /** It waits for `destroy`. */
  async leave(name: string): Promise<void> {
    await this.change(name, (volume) => ({ keep: volume?.keep ?? false, left: true }));
  }

  /** It is nobody's any more; the next project in this folder that has a volume of its name takes it over. */
  async keep(name: string): Promise<void> {
    await this.store.update((state) => ({ ...state, volumes: without(state.volumes ?? {}, name) }));
  }

  /** With all that is in it. */
  async remove(name: string): Promise<void> {
    rmSync(this.folderOf(name), { recursive: true, force: true });
    await this.keep(name);
  }

  private async change(name: string, to: (volume: VolumeState | undefined) => VolumeState): Promise<void> {
    await this.store.update((state) => ({
      ...state,
      volumes: { ...state.volumes, [name]: to(state.volumes?.[name]) },
    }));
  }
}
