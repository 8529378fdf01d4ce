import { existsSync, rmSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import { endingCode, endingWords, hasSucceeded } from '../model/ending.ts';
import { TsvError } from '../model/errors.ts';
import type { Emit } from '../model/events.ts';
import type { MachineHappening } from '../model/machine-event.ts';
import type { Action } from '../model/plan.ts';
import type { Forward, Machine, MachineKind, Project, ProvisionStep } from '../model/project.ts';
import type { ExecSession, MachineContext, Transport } from '../model/provider.ts';
import type { Ending, MachineState, ProcessRef, State } from '../model/state.ts';
import type { Forwards } from '../net/forwards.ts';
import type { Sandbox } from '../net/sandbox.ts';
import { withLive } from '../plan/changes.ts';
import { diskImage } from '../state/paths.ts';
import type { StateStore } from '../state/store.ts';
import { readEnding } from '../sys/kept-files.ts';
import { lastLines } from '../sys/last-lines.ts';
import { isAlive } from '../sys/process.ts';
import { signalName } from '../sys/signals.ts';
import { adjustMachine } from './adjust.ts';
import { type Check, checkOf } from './health-check.ts';
import { HealthWatches } from './health-watches.ts';
import {
  boxKey,
  chooseAddresses,
  type MachinePlaces,
  machineContext,
  namedMachines,
  newRecord,
  type Providers,
  recordOf,
  requireRunning,
  requireUsable,
  Transports,
  without,
} from './machines.ts';
import { ProjectNetworks } from './networks.ts';
import { finishRenames, renameMachine } from './rename.ts';
import { Supervisor } from './supervisor.ts';
import { ProjectVolumes } from './volumes.ts';

export interface EngineOptions {
  readonly store: StateStore;
  readonly sandbox: Sandbox;
  readonly providers: Providers;
  readonly places: MachinePlaces;
  readonly forwards: Forwards;
  dial(host: string, port: number): Promise<Duplex>;
  /** Keeps what happened to a machine. */
  happened(machine: string, event: MachineHappening): void;
  runStep(request: {
    step: ProvisionStep;
    transport: Transport;
    machine: string;
    user: string;
    emit: Emit;
    signal: AbortSignal;
  }): Promise<void>;
}

/** What one action needs besides its names. */
export interface ActionContext {
  /** Absent for halt and destroy of what is only in the state. */
  readonly project: Project | undefined;
  /** Digests of the boxes for machines that are to be created, by {@link boxKey}. */
  readonly boxes: Readonly<Record<string, string>>;
  readonly force: boolean;
  /** How long a machine may take to stop; absent: its own time. */
  readonly stopTimeoutMs?: number;
  readonly emit: Emit;
  readonly signal: AbortSignal;
}

/** Does the actions of plans: the only part that changes the world and the state. Each method is idempotent. */
export class Engine {
  private readonly options: EngineOptions;
  readonly transports = new Transports();
  private readonly supervisor: Supervisor;
  private readonly health: HealthWatches;
  private readonly networks: ProjectNetworks;
  private readonly volumes: ProjectVolumes;
  private ranOneOffs = false;
  /** Called when the sandbox is removed: this agent has nothing to work in any more. */
  onSandboxGone: () => void = () => {};
  /** Called when a machine has ended, whoever ended it. */
  onMachineGone: () => void = () => {};

  constructor(options: EngineOptions) {
    this.options = options;
    this.networks = new ProjectNetworks(options.store, options.sandbox);
    this.volumes = new ProjectVolumes(options.store, options.places.volumeDir);
    this.supervisor = new Supervisor({
      record: (name) => this.state.machines[name],
      update: (name, change) => this.updateMachine(name, change),
      ending: (name) => this.provider(recordOf(this.state, name)).ending(this.context(name)),
      release: (name) => this.release(name),
      start: (name, signal) => this.launch(name, byItself(signal)),
      wait: (name, signal) => this.wait(name, byItself(signal)),
      happened: (name, event) => options.happened(name, event),
      gone: () => this.onMachineGone(),
    });
    this.health = new HealthWatches({
      check: (name) => this.check(name),
      ways: (name) => ({
        connect: () => this.connect(name, new AbortController().signal),
        dial: async (port) => options.dial(firstAddress(recordOf(this.state, name)), port),
      }),
      health: (name) => this.state.machines[name]?.health,
      standsStill: (name) => {
        const record = this.state.machines[name];
        return record === undefined || record.paused === true || !isAlive(record.process);
      },
      update: async (name, health) => {
        const change = ({ health: _, ...record }: MachineState) =>
          health === undefined ? record : { ...record, health };
        await this.updateMachine(name, change).catch((error: Error) => console.error(`${name}: ${error.message}`));
      },
      happened: (name, health) => options.happened(name, { type: 'health', health }),
      printed: (name) => this.printed(name),
    });
  }

  /** Whether a machine that has ended is to be started again. */
  get hasWork(): boolean {
    return this.supervisor.hasWork;
  }

  /** See {@link Supervisor.ended}. */
  ended(name: string, signal: AbortSignal): Promise<Ending> {
    return this.supervisor.ended(name, signal);
  }

  private get state(): State {
    return this.options.store.current;
  }

  async perform(action: Action, context: ActionContext): Promise<void> {
    switch (action.do) {
      case 'sandbox.ensure':
        return this.networks.ensureServices();
      case 'sandbox.remove':
        return this.removeSandbox();
      case 'network.ensure':
        return this.networks.ensure(action.network, context.project);
      case 'network.remove':
        return this.networks.remove(action.network);
      case 'volume.ensure':
        return this.volumes.ensure(action.volume, context.project);
      case 'volume.leave':
        return this.volumes.leave(action.volume);
      case 'volume.keep':
        return this.volumes.keep(action.volume);
      case 'volume.remove':
        return this.volumes.remove(action.volume);
      case 'box.ensure':
        wantedBox(action.box, action.kind, context);
        return;
      case 'image.ensure':
        wantedBox(action.image, 'container', context);
        return;
      case 'machine.create':
        return this.create(wantedMachine(action.machine, context), context);
      case 'machine.start':
        return this.start(action.machine, context);
      case 'machine.adjust':
        return this.adjust(wantedMachine(action.machine, context), context);
      case 'machine.wait':
        return this.wait(action.machine, context);
      case 'machine.provision':
        return this.provision(action.machine, action.step, context);
      case 'machine.healthy':
        return this.healthy(action.machine, context);
      case 'machine.completed':
        return this.completed(action.machine, context.signal);
      case 'machine.stop':
        return this.stop(action.machine, context);
      case 'machine.pause':
        return this.pause(action.machine);
      case 'machine.unpause':
        return this.unpause(action.machine);
      case 'machine.rename':
        return this.rename(action.machine, wantedMachine(action.to, context));
      case 'machine.destroy':
        return this.destroy(action.machine, action.keep, context.emit);
    }
  }

  /** A way into a machine that runs. @throws TSV_NOT_RUNNING */
  async connect(name: string, signal: AbortSignal): Promise<Transport> {
    const record = recordOf(this.state, name);
    requireUsable(record);
    return this.open(name, signal);
  }

  /**
   * Sends a signal to a machine that runs. KILL is a stop that was asked for, whatever else is under way.
   * @throws TSV_NOT_RUNNING, TSV_UNSUPPORTED
   */
  async signal(name: string, signal: number): Promise<void> {
    const record = recordOf(this.state, name);
    requireRunning(record);
    const provider = this.provider(record);
    if (signal !== SIGKILL && record.spec.kind === 'vm') {
      throw new TsvError(
        'TSV_UNSUPPORTED',
        `${name} is a virtual machine: it can be killed, and takes no other signal`,
        {
          details: ['signals are for programs, and those of a virtual machine are inside it'],
          hint: `tsv exec ${name} -- kill -s ${signalName(signal)} PID, or tsv halt ${name} to shut it down`,
        },
      );
    }
    this.options.happened(name, { type: 'signalled', signal: signalName(signal) });
    // First, so that its end counts as asked for; then at once, because whoever connects to it may wait for long.
    const stopping = signal === SIGKILL ? this.stop(name, { force: true }) : undefined;
    provider.signal(this.context(name), signal);
    await stopping;
  }

  /** See {@link Provider.attach}. A paused one may be attached to, too. @throws TSV_NOT_RUNNING, TSV_UNSUPPORTED */
  async attach(name: string): Promise<ExecSession> {
    const record = recordOf(this.state, name);
    requireRunning(record);
    const session = await this.provider(record).attach?.(this.context(name));
    if (session === undefined) throw new TsvError('TSV_UNSUPPORTED', `${name} is a container: it has no console`);
    // In its turn: by then it is known whether a command has stopped it.
    const code = () => this.supervisor.inTurn(name, async () => ({ code: this.exitCode(name) }));
    return { ...session, exited: session.exited.then(code) };
  }

  /** What a machine has ended with; 0 where it runs, or was stopped by a command. */
  private exitCode(name: string): number {
    const record = this.state.machines[name];
    if (record?.process === undefined || isAlive(record.process)) return 0;
    const ending = record.ended ?? readEnding(this.options.places.machineDir(name));
    return ending === undefined ? 0 : endingCode(ending);
  }

  private open(name: string, signal: AbortSignal): Promise<Transport> {
    return this.transports.get(name, async () =>
      this.provider(recordOf(this.state, name)).connect(this.context(name), signal),
    );
  }

  /** What changes nothing that runs, yet `halt` and `destroy` go by: taken from the Tsfile after each `up`. */
  async refreshSpecs(project: Project): Promise<void> {
    const wanted = new Map(project.machines.map((machine) => [machine.name, machine]));
    await this.options.store.update((state) => ({
      ...state,
      machines: Object.fromEntries(
        Object.entries(state.machines).map(([name, record]) => {
          const machine = wanted.get(name);
          return [name, machine === undefined ? record : { ...record, spec: withLive(record.spec, machine) }];
        }),
      ),
    }));
    for (const name of wanted.keys()) this.watchHealth(name);
  }

  /** Takes over what an earlier agent left running. */
  async adopt(warn: (text: string) => void): Promise<void> {
    await finishRenames(this.options, warn);
    this.networks.adopt();
    const tell = (name: string, error: unknown) =>
      warn(`${name}: ${error instanceof Error ? error.message : String(error)}`);
    for (const { spec } of Object.values(this.state.machines))
      if (spec.oneOff === true) await this.removeOneOff(spec.name).catch((error: unknown) => tell(spec.name, error));
    for (const [name, record] of Object.entries(this.state.machines)) {
      await this.supervisor.adopt(name, { restart: record.holder?.pid === this.state.sandbox?.holder.pid });
      if (!isAlive(record.process)) continue;
      try {
        this.provider(record).adopt?.(this.context(name));
        // The one before may have been killed between its word and its deed.
        if (record.paused === true) await this.provider(record).pause(this.context(name), true);
        await this.ensureForwards(name);
        this.watchHealth(name);
      } catch (error) {
        tell(name, error);
      }
    }
  }

  private provider(record: MachineState) {
    return this.options.providers[record.spec.kind];
  }

  private context(name: string): MachineContext {
    return machineContext(this.state, name, this.options.places);
  }

  private updateMachine(name: string, change: (record: MachineState) => MachineState): Promise<State> {
    return this.options.store.update((state) => {
      const record = state.machines[name];
      return record === undefined ? state : { ...state, machines: { ...state.machines, [name]: change(record) } };
    });
  }

  /** Lets go of a machine that ends: nothing of this agent asks or reaches it any more. */
  private async release(name: string): Promise<void> {
    this.health.stop(name);
    await this.transports.drop(name);
    await this.options.forwards.remove(name);
  }

  private async removeSandbox(): Promise<void> {
    this.onSandboxGone();
    await this.transports.dropAll();
    await this.options.forwards.removeAll();
    await this.networks.removeSandbox();
    await this.forgetNetworks();
  }

  private async create(machine: Machine, context: ActionContext): Promise<void> {
    const { store, sandbox } = this.options;
    const digest = wantedBox(machine.box, machine.kind, context);
    await store.update((state) => ({
      ...state,
      machines: {
        ...state.machines,
        [machine.name]: state.machines[machine.name] ?? newRecord(state, machine, digest),
      },
    }));
    const remembered = await this.options.providers[machine.kind].create(this.context(machine.name));
    await this.updateMachine(machine.name, (record) => ({
      ...record,
      provider: { ...record.provider, ...remembered },
    }));
    this.options.happened(machine.name, { type: 'created' });
    sandbox.updateNames(namedMachines(this.state), this.state.sandbox?.dnsmasq);
  }

  private async start(name: string, context: ActionContext): Promise<void> {
    this.supervisor.forget(name);
    return this.supervisor.inTurn(name, async () => {
      await this.launch(name, context, ({ restarts: _, ...record }) => record);
      this.supervisor.watch(name);
    });
  }

  /** @param change to the record, with what the start itself changes of it */
  private async launch(
    name: string,
    context: ActionContext,
    change: (record: MachineState) => MachineState = (record) => record,
  ): Promise<void> {
    const { sandbox, store } = this.options;
    const machine =
      context.project?.machines.find((candidate) => candidate.name === name) ?? recordOf(this.state, name).spec;
    await store.update((state) => {
      const record = change(recordOf(state, name));
      return {
        ...state,
        machines: {
          ...state.machines,
          [name]: { ...record, spec: machine, addresses: chooseAddresses(state, machine), ready: false },
        },
      };
    });
    sandbox.updateNames(namedMachines(this.state), this.state.sandbox?.dnsmasq);
    const record = recordOf(this.state, name);
    await this.ensureForwards(name);
    if (machine.kind === 'vm')
      await this.networks.inTurn(() => sandbox.createTaps(name, record.addresses, this.state.networks));
    // Again before every start: an interrupted creation is completed, new disks are made, grown ones grow.
    const remembered = await this.provider(record).create(this.context(name));
    await this.updateMachine(name, (current) => ({ ...current, provider: { ...current.provider, ...remembered } }));
    const notice = (text: string) => context.emit({ type: 'notice', machine: name, text });
    const known = async (process: ProcessRef) => {
      await this.updateMachine(name, ({ ended: _, health: _1, paused: _2, most: _3, ...current }) => ({
        ...current,
        process,
        holder: sandbox.holder,
        startedAt: new Date().toISOString(),
      }));
    };
    const started = await this.provider(record).start(this.context(name), context.signal, notice, known);
    await this.updateMachine(name, (current) => ({
      ...current,
      process: started.process,
      holder: sandbox.holder,
      ...(started.accel === undefined ? {} : { accel: started.accel }),
      ...(started.most === undefined ? {} : { most: started.most }),
    }));
    this.options.happened(name, { type: 'started' });
  }

  private async ensureForwards(name: string): Promise<void> {
    const { spec, addresses } = recordOf(this.state, name);
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

  private adjust(machine: Machine, { signal, emit }: ActionContext): Promise<void> {
    return this.supervisor.inTurn(machine.name, () =>
      adjustMachine(machine, {
        signal,
        provider: this.options.providers[machine.kind],
        record: () => recordOf(this.state, machine.name),
        context: () => this.context(machine.name),
        update: (change) => this.updateMachine(machine.name, change),
        notice: (text) => emit({ type: 'notice', machine: machine.name, text }),
        happened: (event) => this.options.happened(machine.name, event),
      }),
    );
  }

  private async wait(name: string, context: ActionContext): Promise<void> {
    const machine = context.project?.machines.find((candidate) => candidate.name === name);
    if (machine !== undefined)
      await this.updateMachine(name, (record) => ({
        ...record,
        spec: { ...record.spec, forwards: machine.forwards, provision: machine.provision },
      }));
    // It may end at any time, and need not be reached then.
    const isOver = ({ spec, process }: MachineState) => spec.oneshot === true && !isAlive(process);
    if (isOver(recordOf(this.state, name))) return;
    await this.ensureForwards(name);
    // Also of a container that has ended meanwhile: its provider knows what it printed.
    if (recordOf(this.state, name).spec.kind === 'container') await this.open(name, context.signal);
    else await this.connect(name, context.signal);
    if (!recordOf(this.state, name).ready) {
      await this.updateMachine(name, (record) => ({ ...record, ready: true }));
      this.options.happened(name, { type: 'ready' });
    }
    this.watchHealth(name);
  }

  /** Waits for a machine that runs, and that no command waits for. @throws TSV_WAIT, TSV_NOT_RUNNING */
  async reach(name: string, signal: AbortSignal): Promise<void> {
    if (!recordOf(this.state, name).ready) await this.wait(name, byItself(signal));
  }

  /** What a machine is asked, by the Tsfile or by its image. */
  private check(name: string): Check | undefined {
    const { spec } = recordOf(this.state, name);
    if (spec.oneOff === true) return undefined;
    const isImages = spec.image !== undefined && spec.healthcheck === undefined;
    return checkOf(spec, isImages ? this.context(name).box.defaults : undefined);
  }

  private watchHealth(name: string): void {
    const record = this.state.machines[name];
    // A paused one would not answer.
    if (record?.ready === true && record.paused !== true && isAlive(record.process)) this.health.ensure(name);
  }

  private printed(name: string): readonly string[] {
    return lastLines(this.options.places.machineDir(name), { lines: 10, bytes: 4096 });
  }

  private async healthy(name: string, { project, signal }: ActionContext): Promise<void> {
    const machine = project?.machines.find((candidate) => candidate.name === name);
    if (machine !== undefined)
      await this.updateMachine(name, (record) => ({ ...record, spec: withLive(record.spec, machine) }));
    this.watchHealth(name);
    await this.untilHealthy(name, signal);
  }

  /** @throws TSV_UNHEALTHY, also when it ends and is not started again; TSV_NOT_RUNNING */
  async untilHealthy(name: string, signal: AbortSignal): Promise<void> {
    const over = new AbortController();
    const either = AbortSignal.any([signal, over.signal]);
    const end = this.ended(name, either).then((ending) => {
      throw new TsvError('TSV_UNHEALTHY', `${name} is not healthy: it has ended (${endingWords(ending)})`, {
        details: this.printed(name),
        hint: `tsv logs ${name}`,
      });
    });
    try {
      await Promise.race([this.health.healthy(name, either), end]);
    } finally {
      over.abort();
    }
  }

  private async completed(name: string, signal: AbortSignal): Promise<void> {
    const ending = await this.ended(name, signal);
    if (hasSucceeded(ending)) return;
    const printed = this.printed(name);
    throw new TsvError('TSV_ONESHOT', `${name} did not complete: ${endingWords(ending)}`, {
      details: printed.length === 0 ? ['it printed nothing'] : printed,
      hint: `tsv logs ${name}`,
    });
  }

  private async provision(name: string, stepName: string, context: ActionContext): Promise<void> {
    const machine = wantedMachine(name, context);
    const step = machine.provision.find((candidate) => candidate.name === stepName);
    if (step === undefined) throw new TsvError('TSV_INTERNAL', `${name} has no step ${stepName}`);
    const transport = await this.connect(name, context.signal);
    const { user } = this.context(name).box;
    await this.updateMachine(name, (record) => ({ ...record, steps: without(record.steps, stepName) }));
    const { emit, signal } = context;
    const request = { step, transport, machine: name, user, emit, signal };
    await this.health.without(name, () => this.options.runStep(request));
    await this.updateMachine(name, (record) => ({
      ...record,
      steps: { ...record.steps, [stepName]: { fingerprint: step.fingerprint, doneAt: new Date().toISOString() } },
    }));
    this.options.happened(name, { type: 'provisioned', step: stepName });
  }

  private stop(name: string, how: Pick<ActionContext, 'force' | 'stopTimeoutMs'>): Promise<void> {
    this.supervisor.forget(name);
    return this.supervisor.inTurn(name, () => this.end(name, how));
  }

  private async end(
    name: string,
    { force, stopTimeoutMs }: Pick<ActionContext, 'force' | 'stopTimeoutMs'>,
  ): Promise<void> {
    const { sandbox } = this.options;
    const record = this.state.machines[name];
    if (record === undefined) return;
    await this.release(name);
    await this.provider(record).stop(this.context(name), {
      force,
      ...(stopTimeoutMs === undefined ? {} : { timeoutMs: stopTimeoutMs }),
    });
    if (record.spec.kind === 'vm' && isAlive(sandbox.holder))
      await this.networks.inTurn(() => sandbox.removeTaps(name, record.addresses));
    await this.updateMachine(name, asStopped);
    this.supervisor.tell(name);
    this.options.happened(name, { type: 'stopped' });
  }

  /** Written down first: what is paused unknown to the state would stay so. */
  private pause(name: string): Promise<void> {
    return this.supervisor.inTurn(name, async () => {
      const record = recordOf(this.state, name);
      requireRunning(record);
      await this.updateMachine(name, (current) => ({ ...current, paused: true }));
      this.health.stop(name);
      try {
        await this.provider(record).pause(this.context(name), true);
      } catch (error) {
        await this.updateMachine(name, ({ paused: _, ...current }) => current);
        this.watchHealth(name);
        throw error;
      }
      this.options.happened(name, { type: 'paused' });
    });
  }

  private unpause(name: string): Promise<void> {
    return this.supervisor.inTurn(name, async () => {
      const record = recordOf(this.state, name);
      requireRunning(record);
      await this.provider(record).pause(this.context(name), false);
      await this.updateMachine(name, ({ paused: _, ...current }) => current);
      this.watchHealth(name);
      this.options.happened(name, { type: 'unpaused' });
    });
  }

  private rename(name: string, wanted: Machine): Promise<void> {
    return this.supervisor.inTurn(name, async () => {
      const { sandbox } = this.options;
      const { spec, addresses } = this.supervisor.ofStopped(name);
      this.supervisor.forget(name);
      // Of one that ended by itself they are still there.
      if (spec.kind === 'vm' && isAlive(sandbox.holder))
        await this.networks.inTurn(() => sandbox.removeTaps(name, addresses));
      await renameMachine(this.options, name, wanted);
      if (this.state.sandbox?.dnsmasq !== undefined)
        sandbox.updateNames(namedMachines(this.state), this.state.sandbox.dnsmasq);
    });
  }

  private destroy(name: string, keep: Kept, emit: Emit): Promise<void> {
    this.supervisor.forget(name);
    return this.supervisor.inTurn(name, () => this.remove(name, keep, emit));
  }

  /** What `tsv run` runs, or has left. Gone, or another machine by now: success. */
  removeOneOff(name: string): Promise<void> {
    this.ranOneOffs = true;
    return this.supervisor.inTurn(name, async () => {
      if (this.state.machines[name]?.spec.oneOff === true) await this.remove(name, undefined, () => {});
      await this.forgetNetworks();
    });
  }

  /** They are remembered for machines that come again. A project that has none keeps nothing of a `tsv run`. */
  private async forgetNetworks(): Promise<void> {
    const { machines, sandbox } = this.state;
    if (!this.ranOneOffs || sandbox !== undefined || Object.keys(machines).length > 0) return;
    await this.options.store.update((state) => ({ ...state, networks: {} }));
  }

  private async remove(name: string, keep: Kept, emit: Emit): Promise<void> {
    const { places, store, sandbox } = this.options;
    const record = this.state.machines[name];
    if (record === undefined) return;
    await this.release(name);
    const keepVolumes = keep?.includes('volumes') ?? false;
    const keepDisks = keep?.includes('disks') ?? false;
    await this.provider(record).destroy(this.context(name), { keepVolumes, keepDisks });
    if (record.spec.kind === 'vm' && isAlive(sandbox.holder))
      await this.networks.inTurn(() => sandbox.removeTaps(name, record.addresses));
    if (keep === undefined) rmSync(places.machineDir(name), { recursive: true, force: true });
    rmSync(places.runDir(name), { recursive: true, force: true });
    await store.update((state) => ({ ...state, machines: without(state.machines, name) }));
    this.options.happened(name, { type: 'destroyed' });
    this.supervisor.tell(name);
    if (!keepDisks)
      for (const text of disksLeft(record.spec, places.machineDir(name))) emit({ type: 'notice', machine: name, text });
    // While the sandbox is being removed, too, whose files are gone then.
    const dnsmasq = this.state.sandbox?.dnsmasq;
    if (isAlive(dnsmasq)) sandbox.updateNames(namedMachines(this.state), dnsmasq);
  }
}

const SIGKILL = 9;

type Kept = Extract<Action, { do: 'machine.destroy' }>['keep'];

/** What the machine leaves behind, for people. */
const disksLeft = ({ disks }: Machine, machineDir: string): string[] =>
  disks
    .filter((disk) => disk.keep === true && existsSync(diskImage(machineDir, disk)))
    .map((disk) => `its disk ${disk.name} is kept: ${diskImage(machineDir, disk)}`);

/** What a stop that was asked for leaves of a machine's record. */
function asStopped(record: MachineState): MachineState {
  const { process: _, holder: _1, startedAt: _2, ended: _3, restarts: _4, health: _5, paused: _6, ...kept } = record;
  return { ...kept, ready: false };
}

/** Of what no command has asked for. */
const byItself = (signal: AbortSignal): ActionContext => ({
  project: undefined,
  boxes: {},
  force: false,
  emit: () => {},
  signal,
});

function firstAddress({ spec, addresses: [first] }: MachineState): string {
  if (first === undefined) throw new TsvError('TSV_UNSUPPORTED', `${spec.name} has no network`);
  return first.address;
}

function wantedMachine(name: string, context: ActionContext): Machine {
  const machine = context.project?.machines.find((candidate) => candidate.name === name);
  if (machine === undefined) throw new TsvError('TSV_INTERNAL', `${name} is not in the Tsfile`);
  return machine;
}

function wantedBox(box: string, kind: MachineKind, context: ActionContext): string {
  const digest = context.boxes[boxKey(box, kind)];
  if (digest === undefined) throw new TsvError('TSV_INTERNAL', `nobody has resolved the box ${boxKey(box, kind)}`);
  return digest;
}
