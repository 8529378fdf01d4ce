import type { Duplex } from 'node:stream';
import { endingWords, hasSucceeded } from '../model/ending.ts';
import { TsvError } from '../model/errors.ts';
import type { MachineHappening } from '../model/machine-event.ts';
import type { Action } from '../model/plan.ts';
import type { ProvisionStep } from '../model/project.ts';
import type { Transport } from '../model/provider.ts';
import type { Ending, MachineState } from '../model/state.ts';
import type { Measure } from '../model/timings.ts';
import { withLive } from '../plan/changes.ts';
import { isAlive } from '../sys/process.ts';
import { type ActionContext, byItself, machineOf, wantedMachine } from './action-context.ts';
import { setGuestClock } from './guest-clock.ts';
import { type Check, checkOf } from './health-check.ts';
import { HealthWatches } from './health-watches.ts';
import { KeptSteps, type LayerCache } from './kept-steps.ts';
import { requireUsable, Transports, without } from './machines.ts';
import type { Records } from './records.ts';

export interface ReadinessOptions {
  readonly records: Records;
  readonly cache: LayerCache;
  dial(host: string, port: number): Promise<Duplex>;
  happened(machine: string, event: MachineHappening): void;
  /** See {@link Supervisor.ended}. */
  ended(name: string, signal: AbortSignal): Promise<Ending>;
  /** Its forwarded ports are listened on. */
  ensureForwards(name: string): Promise<void>;
  runStep(request: {
    step: ProvisionStep;
    transport: Transport;
    machine: string;
    user: string;
    emit: ActionContext['emit'];
    signal: AbortSignal;
  }): Promise<void>;
}

/** What machines are that run: reachable, provisioned, healthy, completed; and the ways into them. */
export class Readiness {
  readonly transports = new Transports();
  readonly keptSteps: KeptSteps;
  readonly health: HealthWatches;
  private readonly options: ReadinessOptions;
  private readonly records: Records;
  /** Machines whose way in is yet to be opened, and is opened now. */
  private readonly unopened = new Set<string>();
  private readonly opening = new Map<string, AbortController>();
  /** Ways into systems that have started. */
  private readonly started = new WeakSet<Transport>();

  constructor(options: ReadinessOptions) {
    this.options = options;
    this.records = options.records;
    this.keptSteps = new KeptSteps(options.cache, (name) => this.transports.leave(name));
    this.health = new HealthWatches({
      check: (name) => this.check(name),
      ways: (name) => ({
        connect: () => this.connect(name, new AbortController().signal),
        dial: async (port) => options.dial(firstAddress(this.records.of(name)), port),
      }),
      health: (name) => this.records.find(name)?.health,
      standsStill: (name) => {
        const record = this.records.find(name);
        return record === undefined || record.paused === true || !isAlive(record.process);
      },
      update: async (name, health) => {
        const change = ({ health: _, ...record }: MachineState) =>
          health === undefined ? record : { ...record, health };
        await this.records.update(name, change).catch((error: Error) => console.error(`${name}: ${error.message}`));
      },
      happened: (name, health) => options.happened(name, { type: 'health', health }),
      printed: (name) => this.records.printed(name),
    });
  }

  /** A way into a machine that runs. @throws TSV_NOT_RUNNING */
  async connect(name: string, signal: AbortSignal, measured?: Measure): Promise<Transport> {
    requireUsable(this.records.of(name));
    return this.open(name, signal, measured);
  }

  /** Opens the way into a machine that said that it can be reached: who comes next finds it open. What fails is told to that one. */
  async openAhead(name: string): Promise<void> {
    if (!this.unopened.delete(name)) return;
    const over = new AbortController();
    this.opening.set(name, over);
    await this.connect(name, over.signal).catch(() => {});
    if (this.opening.get(name) === over) this.opening.delete(name);
  }

  /** Closes the way into a machine that ends, or becomes another. */
  async close(name: string): Promise<void> {
    this.unopened.delete(name);
    this.opening.get(name)?.abort();
    await this.transports.drop(name);
  }

  private open(name: string, signal: AbortSignal, measured?: Measure): Promise<Transport> {
    return this.transports.get(name, async () =>
      this.records.provider(this.records.of(name)).connect(this.records.context(name), signal, measured),
    );
  }

  async wait(name: string, context: ActionContext): Promise<void> {
    const machine = machineOf(context.project, name);
    if (machine !== undefined)
      await this.records.update(name, (record) => ({
        ...record,
        spec: { ...record.spec, forwards: machine.forwards, provision: machine.provision },
      }));
    // It may end at any time, and need not be reached then.
    const isOver = ({ spec, process }: MachineState) => spec.oneshot === true && !isAlive(process);
    if (isOver(this.records.of(name))) return;
    await this.options.ensureForwards(name);
    // Also of a container that has ended meanwhile: its provider knows what it printed.
    if (this.records.of(name).spec.kind === 'container') await this.open(name, context.signal);
    else {
      // It has said that it is there, as it was when its memory was saved: the login itself is left to who comes next.
      if ((await this.awaken(name)) || (await this.answers(name))) this.unopened.add(name);
      else {
        const transport = await this.connect(name, context.signal, context.measured);
        if (this.records.of(name).behind === true) {
          await setGuestClock(name, transport);
          await this.records.update(name, ({ behind: _, ...record }) => record);
        }
      }
    }
    if (!this.records.of(name).ready) {
      await this.records.update(name, (record) => ({ ...record, ready: true }));
      this.options.happened(name, { type: 'ready' });
      const log = (text: string) => console.error(`${name}: ${text}`);
      this.records.provider(this.records.of(name)).prepare?.(this.records.context(name), log);
    }
    this.watchHealth(name);
  }

  /** Of one whose memory is of some time ago, before anybody connects to it. true: it was, and has answered. */
  private async awaken(name: string): Promise<boolean> {
    const record = this.records.of(name);
    if (record.behind !== true) return false;
    if ((await this.records.provider(record).awaken?.(this.records.context(name))) !== true) return false;
    await this.records.update(name, ({ behind: _, ...current }) => current);
    return true;
  }

  /** Of one that has its memory from a template. true: it has been asked, and has answered. */
  private async answers(name: string): Promise<boolean> {
    const record = this.records.of(name);
    if (record.boot !== 'warm' || record.behind === true) return false;
    requireUsable(record);
    return (await this.records.provider(record).answers?.(this.records.context(name))) === true;
  }

  /** Waits for a machine that runs, and that no command waits for. @throws TSV_WAIT, TSV_NOT_RUNNING */
  async reach(name: string, signal: AbortSignal): Promise<void> {
    if (!this.records.of(name).ready) await this.wait(name, byItself(signal));
  }

  /** Before the first step over a way in. One that went on from a template's memory has been there. */
  private async untilSystem(name: string, transport: Transport, signal: AbortSignal): Promise<void> {
    const record = this.records.of(name);
    if (record.boot === 'warm' || this.started.has(transport)) return;
    await this.records.provider(record).untilSystem?.(transport, signal);
    this.started.add(transport);
  }

  /** What a machine is asked, by the Tsfile or by its image. */
  private check(name: string): Check | undefined {
    const { spec } = this.records.of(name);
    if (spec.oneOff === true) return undefined;
    const isImages = spec.image !== undefined && spec.healthcheck === undefined;
    return checkOf(spec, isImages ? this.records.context(name).box.defaults : undefined);
  }

  /** Begins to ask it, unless that is under way. */
  watchHealth(name: string): void {
    const record = this.records.find(name);
    // A paused one would not answer.
    if (record?.ready === true && record.paused !== true && isAlive(record.process)) this.health.ensure(name);
  }

  async healthy(name: string, { project, signal }: ActionContext): Promise<void> {
    const machine = machineOf(project, name);
    if (machine !== undefined)
      await this.records.update(name, (record) => ({ ...record, spec: withLive(record.spec, machine) }));
    this.watchHealth(name);
    await this.untilHealthy(name, signal);
  }

  /** @throws TSV_UNHEALTHY, also when it ends and is not started again; TSV_NOT_RUNNING */
  async untilHealthy(name: string, signal: AbortSignal): Promise<void> {
    const over = new AbortController();
    const either = AbortSignal.any([signal, over.signal]);
    const end = this.options.ended(name, either).then((ending) => {
      throw new TsvError('TSV_UNHEALTHY', `${name} is not healthy: it has ended (${endingWords(ending)})`, {
        details: this.records.printed(name),
        hint: `tsv logs ${name}`,
      });
    });
    try {
      await Promise.race([this.health.healthy(name, either), end]);
    } finally {
      over.abort();
    }
  }

  async completed(name: string, signal: AbortSignal): Promise<void> {
    const ending = await this.options.ended(name, signal);
    if (hasSucceeded(ending)) return;
    const printed = this.records.printed(name);
    throw new TsvError('TSV_ONESHOT', `${name} did not complete: ${endingWords(ending)}`, {
      details: printed.length === 0 ? ['it printed nothing'] : printed,
      hint: `tsv logs ${name}`,
    });
  }

  async provision(
    { machine: name, step: stepName, layer, anew = false }: Provision,
    context: ActionContext,
  ): Promise<void> {
    const machine = wantedMachine(name, context);
    const step = machine.provision.find((candidate) => candidate.name === stepName);
    if (step === undefined) throw new TsvError('TSV_INTERNAL', `${name} has no step ${stepName}`);
    const transport = await this.connect(name, context.signal);
    await this.untilSystem(name, transport, context.signal);
    const { user } = this.records.context(name).box;
    await this.records.update(name, (record) => ({ ...record, steps: without(record.steps, stepName) }));
    const { emit, signal } = context;
    const request = { step, transport, machine: name, user, emit, signal };
    await this.health.without(name, () => this.options.runStep(request));
    await this.records.update(name, (record) => ({
      ...record,
      steps: { ...record.steps, [stepName]: { fingerprint: step.fingerprint, doneAt: new Date().toISOString() } },
    }));
    this.options.happened(name, { type: 'provisioned', step: stepName });
    if (layer !== undefined)
      await this.health.without(name, () =>
        this.keptSteps.keep(this.records, step, { name, key: layer, anew }, context),
      );
  }
}

type Provision = Extract<Action, { do: 'machine.provision' }>;

function firstAddress({ spec, addresses: [first] }: MachineState): string {
  if (first === undefined) throw new TsvError('TSV_UNSUPPORTED', `${spec.name} has no network`);
  return first.address;
}
