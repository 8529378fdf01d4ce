import type { Machine } from '../model/project.ts';
import type { MachineContext, Provider } from '../model/provider.ts';
import type { MachineState, State } from '../model/state.ts';
import type { StateStore } from '../state/store.ts';
import { lastLines } from '../sys/last-lines.ts';
import { type MachinePlaces, machineContext, type Providers, recordOf } from './machines.ts';

/** The machines as the state has them, with what is needed to do something to one. */
export class Records {
  readonly providers: Providers;
  readonly places: MachinePlaces;
  readonly store: StateStore;

  constructor({ providers, places, store }: Pick<Records, 'providers' | 'places' | 'store'>) {
    this.providers = providers;
    this.places = places;
    this.store = store;
  }

  get state(): State {
    return this.store.current;
  }

  find(name: string): MachineState | undefined {
    return this.state.machines[name];
  }

  /** @throws TSV_NOT_RUNNING for one that does not exist */
  of(name: string): MachineState {
    return recordOf(this.state, name);
  }

  /** Of one that does not exist any more nothing is written. */
  update(name: string, change: (record: MachineState) => MachineState): Promise<State> {
    return this.store.update((state) => {
      const record = state.machines[name];
      return record === undefined ? state : { ...state, machines: { ...state.machines, [name]: change(record) } };
    });
  }

  provider({ spec }: { readonly spec: Pick<Machine, 'kind'> }): Provider {
    return this.providers[spec.kind];
  }

  context(name: string): MachineContext {
    return machineContext(this.state, name, this.places);
  }

  /** Its last lines. */
  printed(name: string): readonly string[] {
    return lastLines(this.places.machineDir(name), { lines: 10, bytes: 4096 });
  }
}
