import type { Duplex } from 'node:stream';
import { endingCode } from '../model/ending.ts';
import { TsvError } from '../model/errors.ts';
import type { MachineHappening } from '../model/machine-event.ts';
import type { Action } from '../model/plan.ts';
import type { Project } from '../model/project.ts';
import type { ExecSession, Transport } from '../model/provider.ts';
import type { Ending } from '../model/state.ts';
import type { Forwards } from '../net/forwards.ts';
import type { Sandbox } from '../net/sandbox.ts';
import { withLive } from '../plan/changes.ts';
import type { StateStore } from '../state/store.ts';
import { readEnding } from '../sys/kept-files.ts';
import { isAlive } from '../sys/process.ts';
import { signalName } from '../sys/signals.ts';
import { type ActionContext, byItself, wantedBox, wantedMachine } from './action-context.ts';
import { finishClones } from './clone.ts';
import type { LayerCache } from './kept-steps.ts';
import { Lives } from './lives.ts';
import { type MachinePlaces, type Providers, requireRunning } from './machines.ts';
import { ProjectNetworks } from './networks.ts';
import { Readiness, type ReadinessOptions } from './readiness.ts';
import { Records } from './records.ts';
import { finishRenames } from './rename.ts';
import { ProjectSnapshots } from './snapshots.ts';
import { adoptHalfDone, type StandStillParts } from './stand-still.ts';
import { Supervisor } from './supervisor.ts';
import { Suspension } from './suspend.ts';
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
  readonly runStep: ReadinessOptions['runStep'];
  readonly cache: LayerCache;
}

/** Does the actions of plans: the only part that changes the world and the state. Each method is idempotent. */
export class Engine {
  private readonly options: EngineOptions;
  private readonly records: Records;
  private readonly supervisor: Supervisor;
  private readonly readiness: Readiness;
  private readonly lives: Lives;
  private readonly parts: StandStillParts;
  private readonly snapshots: ProjectSnapshots;
  private readonly suspension: Suspension;
  private readonly networks: ProjectNetworks;
  private readonly volumes: ProjectVolumes;
  private settled: Promise<void> = Promise.resolve();
  /** Called when the sandbox is removed: this agent has nothing to work in any more. */
  onSandboxGone: () => void = () => {};
  /** Called when a machine has ended, whoever ended it. */
  onMachineGone: () => void = () => {};

  constructor(options: EngineOptions) {
    const { store, sandbox, forwards, cache } = options;
    const happened: EngineOptions['happened'] = (name, event) => options.happened(name, event);
    this.options = options;
    this.records = new Records(options);
    this.networks = new ProjectNetworks(store, sandbox);
    this.volumes = new ProjectVolumes(store, options.places.volumeDir);
    const { records, networks } = this;
    const supervisor = new Supervisor({
      record: (name) => records.find(name),
      update: (name, change) => records.update(name, change),
      ending: (name) => records.provider(records.of(name)).ending(records.context(name)),
      release: (name) => this.lives.release(name),
      start: (name, signal) => this.lives.launch(name, byItself(signal)),
      wait: (name, signal) => this.readiness.wait(name, byItself(signal)),
      happened,
      gone: () => this.onMachineGone(),
    });
    const readiness = new Readiness({
      records,
      cache,
      happened,
      dial: (host, port) => options.dial(host, port),
      ended: (name, signal) => supervisor.ended(name, signal),
      ensureForwards: (name) => this.lives.ensureForwards(name),
      runStep: (request) => options.runStep(request),
    });
    this.supervisor = supervisor;
    this.readiness = readiness;
    const dial: EngineOptions['dial'] = (host, port) => options.dial(host, port);
    this.lives = new Lives({ records, sandbox, networks, forwards, readiness, supervisor, cache, happened, dial });
    this.parts = { records, lives: this.lives, readiness, supervisor, happened };
    this.snapshots = new ProjectSnapshots(this.parts);
    this.suspension = new Suspension(this.parts);
  }

  /** Whether a machine that has ended is to be started again. */
  get hasWork(): boolean {
    return this.supervisor.hasWork;
  }

  /** See {@link Supervisor.ended}. */
  ended(name: string, signal: AbortSignal): Promise<Ending> {
    return this.supervisor.ended(name, signal);
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
        return this.lives.create(wantedMachine(action.machine, context), action.from, context);
      case 'machine.start':
        return this.lives.start(action.machine, context);
      case 'machine.adjust':
        return this.lives.adjust(wantedMachine(action.machine, context), context);
      case 'machine.wait':
        return this.readiness.wait(action.machine, context);
      case 'machine.provision':
        return this.readiness.provision(action, context);
      case 'machine.cached':
        this.options.happened(action.machine, { type: 'provisioned', step: action.step, cached: true });
        return;
      case 'machine.forget':
        return this.options.cache.forget(action.layers);
      case 'machine.healthy':
        return this.readiness.healthy(action.machine, context);
      case 'machine.completed':
        return this.readiness.completed(action.machine, context.signal);
      case 'machine.stop':
        return this.lives.stop(action.machine, context);
      case 'machine.pause':
        return this.lives.pause(action.machine);
      case 'machine.unpause':
        return this.lives.unpause(action.machine);
      case 'machine.suspend':
        return this.suspension.suspend(action.machine, context);
      case 'machine.resume':
        return this.suspension.resume(action.machine, context);
      case 'snapshot.save':
        return this.snapshots.save(action, context);
      case 'snapshot.restore':
        return this.snapshots.restore(action, context);
      case 'snapshot.delete':
        return this.snapshots.delete(action.snapshot);
      case 'machine.rename':
        return this.lives.rename(action.machine, wantedMachine(action.to, context));
      case 'machine.clone':
        return this.lives.clone(action.from, wantedMachine(action.machine, context), context.signal);
      case 'machine.destroy':
        return this.lives.destroy(action.machine, action.keep, context.emit);
    }
  }

  /** A way into a machine that runs, for somebody who may change it. @throws TSV_NOT_RUNNING */
  connect(name: string, signal: AbortSignal): Promise<Transport> {
    this.readiness.keptSteps.touched(name);
    return this.readiness.connect(name, signal);
  }

  /** See {@link Readiness.reach}. */
  reach(name: string, signal: AbortSignal): Promise<void> {
    return this.readiness.reach(name, signal);
  }

  /** See {@link Readiness.untilHealthy}. */
  untilHealthy(name: string, signal: AbortSignal): Promise<void> {
    return this.readiness.untilHealthy(name, signal);
  }

  /** See {@link Lives.removeOneOff}. */
  removeOneOff(name: string): Promise<void> {
    return this.lives.removeOneOff(name);
  }

  /**
   * Sends a signal to a machine that runs. KILL is a stop that was asked for, whatever else is under way.
   * @throws TSV_NOT_RUNNING, TSV_UNSUPPORTED
   */
  async signal(name: string, signal: number): Promise<void> {
    const record = this.records.of(name);
    requireRunning(record);
    const provider = this.records.provider(record);
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
    const stopping = signal === SIGKILL ? this.lives.stop(name, { force: true }) : undefined;
    provider.signal(this.records.context(name), signal);
    await stopping;
  }

  /** See {@link Provider.attach}. A paused one may be attached to, too. @throws TSV_NOT_RUNNING, TSV_UNSUPPORTED */
  async attach(name: string): Promise<ExecSession> {
    const record = this.records.of(name);
    requireRunning(record);
    const session = await this.records.provider(record).attach?.(this.records.context(name));
    if (session === undefined) throw new TsvError('TSV_UNSUPPORTED', `${name} is a container: it has no console`);
    // In its turn: by then it is known whether a command has stopped it.
    const code = () => this.supervisor.inTurn(name, async () => ({ code: this.exitCode(name) }));
    return { ...session, exited: session.exited.then(code) };
  }

  /** What a machine has ended with; 0 where it runs, or was stopped by a command. */
  private exitCode(name: string): number {
    const record = this.records.find(name);
    if (record?.process === undefined || isAlive(record.process)) return 0;
    const ending = record.ended ?? readEnding(this.records.places.machineDir(name));
    return ending === undefined ? 0 : endingCode(ending);
  }

  /** What changes nothing that runs, yet `halt` and `destroy` go by: taken from the Tsfile after each `up`. */
  async refreshSpecs(project: Project): Promise<void> {
    const wanted = new Map(project.machines.map((machine) => [machine.name, machine]));
    await this.records.store.update((state) => ({
      ...state,
      machines: Object.fromEntries(
        Object.entries(state.machines).map(([name, record]) => {
          const machine = wanted.get(name);
          return [name, machine === undefined ? record : { ...record, spec: withLive(record.spec, machine) }];
        }),
      ),
    }));
    for (const name of wanted.keys()) this.readiness.watchHealth(name);
  }

  /**
   * What machines that run have left to do and nobody waits for: the way in, and {@link Provider.settle}. One after the other,
   * as long as it is quiet: whoever comes meanwhile goes first. What fails, or is left, is tried when it is quiet again.
   */
  settle(isQuiet: () => boolean): void {
    const settleAll = async () => {
      for (const name of Object.keys(this.records.state.machines)) await this.settleOne(name, isQuiet).catch(() => {});
    };
    this.settled = this.settled.then(settleAll);
  }

  private async settleOne(name: string, isQuiet: () => boolean): Promise<void> {
    const record = this.records.find(name);
    if (record === undefined || !isAlive(record.process) || !isQuiet()) return;
    await this.readiness.openAhead(name);
    if (isQuiet()) await this.records.provider(record).settle?.(this.records.context(name));
  }

  /** Takes over what an earlier agent left running. */
  async adopt(warn: (text: string) => void): Promise<void> {
    await finishRenames(this.options, warn);
    await finishClones(this.parts, warn);
    this.networks.adopt();
    const tell = (name: string, error: unknown) =>
      warn(`${name}: ${error instanceof Error ? error.message : String(error)}`);
    for (const { spec } of Object.values(this.records.state.machines))
      if (spec.oneOff === true) await this.removeOneOff(spec.name).catch((error: unknown) => tell(spec.name, error));
    for (const [name, record] of Object.entries(this.records.state.machines)) {
      await adoptHalfDone(this.parts, name).catch((error: unknown) => tell(name, error));
      await this.supervisor.adopt(name, { restart: record.holder?.pid === this.records.state.sandbox?.holder.pid });
      if (!isAlive(record.process)) continue;
      try {
        this.records.provider(record).adopt?.(this.records.context(name));
        // The one before may have been killed between its word and its deed, or as it held a machine still to copy it.
        const provider = this.records.provider(record);
        if (record.paused === true || provider.saveLayer !== undefined)
          await provider.pause(this.records.context(name), record.paused === true);
        await this.lives.ensureForwards(name);
        this.readiness.watchHealth(name);
      } catch (error) {
        tell(name, error);
      }
    }
  }

  private async removeSandbox(): Promise<void> {
    this.onSandboxGone();
    await this.readiness.transports.dropAll();
    await this.options.forwards.removeAll();
    await this.networks.removeSandbox();
    await this.lives.forgetNetworks();
  }
}

const SIGKILL = 9;
