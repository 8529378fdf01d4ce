import { existsSync, rmSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import type { Emit } from '../model/events.ts';
import type { MachineHappening } from '../model/machine-event.ts';
import type { Action } from '../model/plan.ts';
import type { Forward, Machine } from '../model/project.ts';
import type { Load } from '../model/provider.ts';
import type { MachineState, ProcessRef, Suspended } from '../model/state.ts';
import type { Forwards } from '../net/forwards.ts';
import type { Sandbox } from '../net/sandbox.ts';
import { halfRestored } from '../plan/snapshots.ts';
import { diskImage } from '../state/paths.ts';
import { forgetMachine } from '../state/snapshots.ts';
import { isAlive } from '../sys/process.ts';
import { type ActionContext, machineOf, wantedBox } from './action-context.ts';
import { adjustMachine } from './adjust.ts';
import { cloneMachine, halfCloned } from './clone.ts';
import type { LayerCache } from './kept-steps.ts';
import {
  chooseAddresses,
  namedMachines,
  newRecord,
  recordOf,
  requireRunning,
  suspendTag,
  without,
} from './machines.ts';
import type { ProjectNetworks } from './networks.ts';
import type { Readiness } from './readiness.ts';
import type { Records } from './records.ts';
import { renameMachine } from './rename.ts';
import type { Supervisor } from './supervisor.ts';

export interface LivesOptions {
  readonly records: Records;
  readonly sandbox: Sandbox;
  readonly networks: ProjectNetworks;
  readonly forwards: Forwards;
  readonly readiness: Readiness;
  readonly supervisor: Supervisor;
  readonly cache: LayerCache;
  dial(host: string, port: number): Promise<Duplex>;
  happened(machine: string, event: MachineHappening): void;
}

/** From a machine's making to its end: what is done to one comes one after the other. */
export class Lives {
  private readonly options: LivesOptions;
  private readonly records: Records;
  private readonly readiness: Readiness;
  private readonly supervisor: Supervisor;
  private ranOneOffs = false;

  constructor(options: LivesOptions) {
    this.options = options;
    this.records = options.records;
    this.readiness = options.readiness;
    this.supervisor = options.supervisor;
  }

  /** `from`: the steps of the layer are done from the moment on in which the machine is known. */
  async create(machine: Machine, from: CreateFrom, context: ActionContext): Promise<void> {
    const { store } = this.records;
    const digest = wantedBox(machine.box, machine.kind, context);
    const write = (provisioned: Partial<MachineState>) =>
      store.update((state) => ({
        ...state,
        machines: {
          ...state.machines,
          [machine.name]: state.machines[machine.name] ?? { ...newRecord(state, machine, digest), ...provisioned },
        },
      }));
    const { signal, emit } = context;
    const wait = { signal, progress: (text: string) => emit({ type: 'notice', text }) };
    if (from === undefined) await write({});
    else
      await this.options.cache.use(from.layer, wait, (layers) =>
        write({ layers, steps: stepsDone(machine, from.steps) }),
      );
    this.readiness.keptSteps.begin(machine.name);
    const remembered = await this.records.providers[machine.kind].create(this.records.context(machine.name));
    await this.records.update(machine.name, (record) => ({
      ...record,
      provider: { ...record.provider, ...remembered },
    }));
    this.options.happened(machine.name, { type: 'created' });
    this.tellNames();
  }

  async start(name: string, context: ActionContext): Promise<void> {
    this.supervisor.forget(name);
    return this.supervisor.inTurn(name, async () => {
      await this.launch(name, context, ({ restarts: _, ...record }) => record);
      this.supervisor.watch(name);
    });
  }

  /**
   * @param change to the record, with what the start itself changes of it
   * @param load what it goes on with: it then stands still
   */
  async launch(
    name: string,
    context: ActionContext,
    change: (record: MachineState) => MachineState = (record) => record,
    load?: Load,
  ): Promise<void> {
    const { store } = this.records;
    const { sandbox } = this.options;
    const { spec, restoring, cloning } = this.records.of(name);
    if (cloning !== undefined) throw halfCloned(name);
    if (restoring !== undefined && load === undefined) throw halfRestored(name, restoring);
    const machine = machineOf(context.project, name) ?? spec;
    await store.update((state) => {
      const { suspended, ...rest } = change(recordOf(state, name));
      const record = load === undefined || suspended === undefined ? rest : { ...rest, suspended };
      return {
        ...state,
        machines: {
          ...state.machines,
          [name]: { ...record, spec: machine, addresses: chooseAddresses(state, machine), ready: false },
        },
      };
    });
    this.tellNames();
    const record = this.records.of(name);
    await this.ensureForwards(name);
    if (machine.kind === 'vm')
      await this.options.networks.inTurn(() => sandbox.createTaps(name, record.addresses, this.records.state.networks));
    // Again before every start: an interrupted creation is completed, new disks are made, grown ones grow.
    const remembered = await this.records.provider(record).create(this.records.context(name));
    await this.records.update(name, (current) => ({ ...current, provider: { ...current.provider, ...remembered } }));
    const notice = (text: string) => context.emit({ type: 'notice', machine: name, text });
    const known = async (process: ProcessRef) => {
      await this.records.update(name, ({ ended: _, health: _1, paused: _2, most: _3, ...current }) => ({
        ...current,
        process,
        holder: sandbox.holder,
        startedAt: new Date().toISOString(),
      }));
    };
    const started = await this.records
      .provider(record)
      .start(this.records.context(name), context.signal, notice, known, load);
    await this.records.update(name, (current) => ({
      ...current,
      process: started.process,
      holder: sandbox.holder,
      ...(started.accel === undefined ? {} : { accel: started.accel }),
      ...(started.most === undefined ? {} : { most: started.most }),
      ...(started.boot === undefined ? {} : { boot: started.boot }),
    }));
    this.options.happened(name, { type: 'started' });
  }

  /**
   * Tells the name server which machines there are. One that does not run learns it when it is started, and may have no folder
   * any more: its sandbox is being removed.
   */
  private tellNames(): void {
    const dnsmasq = this.records.state.sandbox?.dnsmasq;
    if (isAlive(dnsmasq)) this.options.sandbox.updateNames(namedMachines(this.records.state), dnsmasq);
  }

  private async removeTaps({ spec, addresses }: MachineState): Promise<void> {
    const { sandbox, networks } = this.options;
    if (spec.kind === 'vm' && isAlive(sandbox.holder))
      await networks.inTurn(() => sandbox.removeTaps(spec.name, addresses));
  }

  /** Lets go of a machine that ends: nothing of this agent asks or reaches it any more. */
  async release(name: string): Promise<void> {
    this.readiness.health.stop(name);
    await this.readiness.close(name);
    await this.options.forwards.remove(name);
  }

  /** Its forwarded ports are listened on, and no others of its. */
  async ensureForwards(name: string): Promise<void> {
    const { spec, addresses } = this.records.of(name);
    const address = addresses[0]?.address;
    if (address === undefined) return;
    await this.options.forwards.ensure(
      name,
      spec.forwards.map((forward: Forward) => ({
        machine: name,
        forward,
        dial: () => this.options.dial(address, forward.guestPort),
      })),
    );
  }

  adjust(machine: Machine, { signal, emit }: ActionContext): Promise<void> {
    return this.supervisor.inTurn(machine.name, () =>
      adjustMachine(machine, {
        signal,
        provider: this.records.providers[machine.kind],
        record: () => this.records.of(machine.name),
        context: () => this.records.context(machine.name),
        update: (change) => this.records.update(machine.name, change),
        notice: (text) => emit({ type: 'notice', machine: machine.name, text }),
        happened: (event) => this.options.happened(machine.name, event),
      }),
    );
  }

  stop(name: string, how: HowToStop): Promise<void> {
    this.supervisor.forget(name);
    return this.supervisor.inTurn(name, () => this.end(name, how));
  }

  /** In its turn. `suspended`: it is to go on with this; else what it was suspended with is thrown away. */
  async end(
    name: string,
    { force, stopTimeoutMs, emit, suspended }: HowToStop & { readonly suspended?: Suspended },
  ): Promise<void> {
    const record = this.records.find(name);
    if (record === undefined) return;
    await this.release(name);
    await this.records.provider(record).stop(this.records.context(name), {
      force,
      ...(stopTimeoutMs === undefined ? {} : { timeoutMs: stopTimeoutMs }),
      ...(emit === undefined ? {} : { forced: (text) => emit({ type: 'warning', machine: name, text }) }),
    });
    await this.removeTaps(record);
    if (suspended !== undefined) {
      await this.records.update(name, (current) => ({ ...asStopped(current), suspended }));
      this.supervisor.tell(name);
      return;
    }
    if (record.suspended?.memory === true) {
      await this.records.provider(record).snapshots.delete(this.records.context(name), suspendTag);
      emit?.({ type: 'notice', machine: name, text: `its memory of ${record.suspended.at} is thrown away` });
    }
    await this.records.update(name, asStopped);
    this.supervisor.tell(name);
    this.options.happened(name, { type: 'stopped' });
  }

  /** Written down first: what is paused unknown to the state would stay so. */
  pause(name: string): Promise<void> {
    return this.supervisor.inTurn(name, async () => {
      const record = this.records.of(name);
      requireRunning(record);
      await this.records.update(name, (current) => ({ ...current, paused: true }));
      this.readiness.health.stop(name);
      try {
        await this.records.provider(record).pause(this.records.context(name), true);
      } catch (error) {
        await this.records.update(name, ({ paused: _, ...current }) => current);
        this.readiness.watchHealth(name);
        throw error;
      }
      this.options.happened(name, { type: 'paused' });
    });
  }

  unpause(name: string): Promise<void> {
    return this.supervisor.inTurn(name, async () => {
      const record = this.records.of(name);
      requireRunning(record);
      await this.records.provider(record).pause(this.records.context(name), false);
      await this.records.update(name, ({ paused: _, ...current }) => current);
      this.readiness.watchHealth(name);
      this.options.happened(name, { type: 'unpaused' });
    });
  }

  rename(name: string, wanted: Machine): Promise<void> {
    return this.supervisor.inTurn(name, async () => {
      const { store, places } = this.records;
      const record = this.supervisor.ofStopped(name);
      this.supervisor.forget(name);
      // Of one that ended by itself they are still there.
      await this.removeTaps(record);
      await renameMachine({ store, places, happened: this.options.happened }, name, wanted);
      this.tellNames();
    });
  }

  /** `wanted` is to be a copy of the machine `name`. */
  clone(name: string, wanted: Machine, signal: AbortSignal): Promise<void> {
    return this.supervisor.inTurn(name, async () => {
      this.supervisor.ofStopped(name);
      await cloneMachine({ records: this.records, happened: this.options.happened }, name, wanted, signal);
      // Another machine of its name may have been what its steps have made of it; nobody knows what is in this one.
      this.readiness.keptSteps.touched(wanted.name);
      this.tellNames();
    });
  }

  destroy(name: string, keep: Kept, emit: Emit): Promise<void> {
    this.supervisor.forget(name);
    return this.supervisor.inTurn(name, () => this.remove(name, keep, emit));
  }

  /** What `tsv run` runs, or has left. Gone, or another machine by now: success. */
  removeOneOff(name: string): Promise<void> {
    this.ranOneOffs = true;
    return this.supervisor.inTurn(name, async () => {
      if (this.records.find(name)?.spec.oneOff === true) await this.remove(name, undefined, () => {});
      await this.forgetNetworks();
    });
  }

  /** They are remembered for machines that come again. A project that has none keeps nothing of a `tsv run`. */
  async forgetNetworks(): Promise<void> {
    const { machines, sandbox } = this.records.state;
    if (!this.ranOneOffs || sandbox !== undefined || Object.keys(machines).length > 0) return;
    await this.records.store.update((state) => ({ ...state, networks: {} }));
  }

  private async remove(name: string, keep: Kept, emit: Emit): Promise<void> {
    const { places, store } = this.records;
    const record = this.records.find(name);
    if (record === undefined) return;
    await this.release(name);
    const keepVolumes = keep?.includes('volumes') ?? false;
    const keepDisks = keep?.includes('disks') ?? false;
    await this.records.provider(record).destroy(this.records.context(name), { keepVolumes, keepDisks });
    await this.removeTaps(record);
    if (keep === undefined) rmSync(places.machineDir(name), { recursive: true, force: true });
    rmSync(places.runDir(name), { recursive: true, force: true });
    await store.update((state) => ({ ...state, machines: without(state.machines, name) }));
    const gone = await forgetMachine(this.records.state.projectDir, name);
    if (gone.length > 0) {
      const text = `${gone.length === 1 ? 'its snapshot' : `its ${gone.length} snapshots`} went with it: ${gone.join(', ')}`;
      emit({ type: 'notice', machine: name, text });
    }
    this.options.happened(name, { type: 'destroyed' });
    this.supervisor.tell(name);
    if (!keepDisks)
      for (const text of disksLeft(record.spec, places.machineDir(name))) emit({ type: 'notice', machine: name, text });
    this.tellNames();
  }
}

/** `emit`: for who is to hear that force was needed. */
type HowToStop = Pick<ActionContext, 'force' | 'stopTimeoutMs'> & Partial<Pick<ActionContext, 'emit'>>;
type CreateFrom = Extract<Action, { do: 'machine.create' }>['from'];

function stepsDone(machine: Machine, names: readonly string[]): MachineState['steps'] {
  const doneAt = new Date().toISOString();
  const done = machine.provision.filter(({ name }) => names.includes(name));
  return Object.fromEntries(done.map(({ name, fingerprint }) => [name, { fingerprint, doneAt }]));
}

type Kept = Extract<Action, { do: 'machine.destroy' }>['keep'];

/** What the machine leaves behind, for people. */
const disksLeft = ({ disks }: Machine, machineDir: string): string[] =>
  disks
    .filter((disk) => disk.keep === true && existsSync(diskImage(machineDir, disk)))
    .map((disk) => `its disk ${disk.name} is kept: ${diskImage(machineDir, disk)}`);

/** What a stop that was asked for leaves of a machine's record. */
export function asStopped(record: MachineState): MachineState {
  const { process: _, holder: _1, startedAt: _2, ended: _3, restarts: _4, health: _5, paused: _6, ...rest } = record;
  const { saving: _7, behind: _8, suspended: _9, ...kept } = rest;
  return { ...kept, ready: false };
}
