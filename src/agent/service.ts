import type { Duplex } from 'node:stream';
import { TsvError, toTsvError } from '../model/errors.ts';
import type { Emit } from '../model/events.ts';
import { refuseImpossible } from '../model/impossible.ts';
import type { Forward, Project } from '../model/project.ts';
import type { CopySession, ExecRequest, ExecSession, Transport } from '../model/provider.ts';
import { laps } from '../model/timings.ts';
import type { Waited } from '../model/waiting.ts';
import type { Forwards } from '../net/forwards.ts';
import type { CacheView } from '../plan/cache.ts';
import { execute, executionError } from '../plan/execute.ts';
import { reconcile } from '../plan/reconcile.ts';
import type { Journal } from '../state/journal.ts';
import { observe } from '../state/observe.ts';
import type { StateStore } from '../state/store.ts';
import type { Changes } from './changes.ts';
import { Deadline } from './deadline.ts';
import type { Engine } from './engine.ts';
import { boxKey, type Providers, recordOf, requireUsable } from './machines.ts';
import { OneOffs, type OneOffWork } from './one-off.ts';
import type { Call, ProjectCommand, RunResult } from './protocol.ts';
import { waitForAll } from './wait.ts';

export interface SshServer {
  accept(stream: Duplex): Promise<void>;
}

export interface ServiceOptions {
  readonly store: StateStore;
  readonly engine: Engine;
  readonly forwards: Forwards;
  journal(): Journal;
  /** Keeps what `status` wants to know of the Tsfile without parsing it. */
  writeNote(note: unknown): void;
  readonly providers: Providers;
  /** Makes the SSH server of a container; the machine's keys lie in its folder. */
  sshServer(machine: string, transport: Transport): Promise<SshServer>;
  dial(host: string, port: number): Promise<Duplex>;
  /** Told of everything that happens to machines. */
  readonly changes: Changes;
  /** Keys of the provision cache. */
  layers(): ReadonlySet<string>;
}

export type SshTarget =
  | { readonly type: 'serve'; accept(stream: Duplex): Promise<void> }
  | { readonly type: 'stream'; readonly stream: Duplex };

/** What the agent does for commands; the socket is elsewhere (server.ts). */
export class Service {
  private readonly options: ServiceOptions;
  private commands = 0;
  readonly oneOffs: OneOffs;

  constructor(options: ServiceOptions) {
    this.options = options;
    this.oneOffs = new OneOffs({
      store: options.store,
      bringUp: (work, emit, signal) => this.run(work, 1, emit, signal),
      remove: (name) => options.engine.removeOneOff(name),
    });
  }

  /** Looks, plans, and carries the plan out. `timings`: tells where time goes. @throws what went wrong, as one error */
  async run(
    command: ProjectCommand | OneOffWork,
    parallel: number,
    emit: Emit,
    signal: AbortSignal,
    timings = false,
  ): Promise<RunResult> {
    this.commands++;
    try {
      return await this.carryOut(command, parallel, emit, signal, timings);
    } finally {
      this.commands--;
      this.options.changes.tell();
    }
  }

  private async carryOut(
    command: ProjectCommand | OneOffWork,
    parallel: number,
    emit: Emit,
    signal: AbortSignal,
    timings: boolean,
  ): Promise<RunResult> {
    const { store, engine } = this.options;
    const lap = laps(timings ? emit : undefined, performance.now());
    if (command.project !== undefined) {
      const { name, digest } = command.project;
      await store.update((state) => ({
        ...state,
        projectName: Object.keys(state.machines).length === 0 ? name : state.projectName,
        tsfileDigest: command.command === 'run' ? state.tsfileDigest : digest,
      }));
    }
    if ('note' in command) this.options.writeNote(command.note);
    if (command.project !== undefined) this.validate(command.project);
    const plan = reconcile({ ...reconcileRequest(command, this.options.layers), observation: observe(store.current) });
    lap('look and plan');
    emit({ type: 'plan', plan });
    const journal = this.options.journal();
    const deadline = new Deadline('timeoutMs' in command ? command.timeoutMs : undefined);
    const force = command.command === 'destroy' || (command.command === 'halt' && command.force === true);
    try {
      const result = await execute(plan, {
        run: (node, context) =>
          deadline.hold(node.action, context.signal, (waitSignal) =>
            engine.perform(node.action, {
              project: command.project,
              boxes: 'boxes' in command ? command.boxes : {},
              force,
              ...('stopTimeoutMs' in command ? { stopTimeoutMs: command.stopTimeoutMs } : {}),
              emit: (event) =>
                event.type === 'notice' && event.machine === undefined ? context.progress(event.text) : emit(event),
              signal: waitSignal,
              ...(timings
                ? { measured: (what, ms) => emit({ type: 'timing', id: node.id, what, ms: Math.round(ms) }) }
                : {}),
            }),
          ),
        journal: journal.forCommand(command.command),
        emit,
        parallel,
        signal,
      });
      const error = executionError(result);
      if (error !== undefined) throw deadline.summary(result, error);
      if (command.command === 'up') await engine.refreshSpecs(command.project);
      return { plan };
    } finally {
      deadline.close();
      journal.close();
    }
  }

  private validate(project: Project): void {
    refuseImpossible(project, (machine) => this.options.providers[machine.kind].validate(machine));
  }

  async exec(machine: string, request: ExecRequest): Promise<ExecSession> {
    const transport = await this.options.engine.connect(machine, new AbortController().signal);
    return transport.exec(request);
  }

  /** The console of a virtual machine that runs. @throws TSV_NOT_RUNNING, TSV_UNSUPPORTED */
  async attach(machine: string): Promise<ExecSession> {
    return this.options.engine.attach(machine);
  }

  /** Files of a machine as an archive, or the other way round. */
  async copy(call: Extract<Call, { do: 'pack' | 'unpack' }>): Promise<CopySession> {
    const transport = await this.options.engine.connect(call.machine, new AbortController().signal);
    return call.do === 'pack' ? transport.pack(call.request) : transport.unpack(call.request);
  }

  /** Sends a signal to all of them. @throws what went wrong, as one error; the others have got it */
  async signal(machines: readonly string[], signal: number): Promise<void> {
    const all = await Promise.allSettled(machines.map((name) => this.options.engine.signal(name, signal)));
    const [first, ...more] = all.flatMap((one) => (one.status === 'rejected' ? [toTsvError(one.reason)] : []));
    if (first === undefined) return;
    if (more.length === 0) throw first;
    throw new TsvError(first.code, `${more.length + 1} of ${machines.length} machines did not get the signal`, {
      details: [first, ...more].map(({ message }) => message),
      ...(first.hint === undefined ? {} : { hint: first.hint }),
    });
  }

  /** The machine's SSH server: a VM's own, or ours on behalf of a container. */
  async openSsh(machine: string, signal: AbortSignal): Promise<SshTarget> {
    const { store, engine } = this.options;
    const record = recordOf(store.current, machine);
    if (record.spec.kind === 'container') {
      const server = await this.options.sshServer(machine, await engine.connect(machine, signal));
      return { type: 'serve', accept: (stream) => server.accept(stream) };
    }
    const address = record.addresses[0]?.address;
    if (address === undefined) throw new TsvError('TSV_UNSUPPORTED', `${machine} has no network`);
    requireUsable(record);
    if (!record.ready) await engine.connect(machine, signal);
    return { type: 'stream', stream: await this.options.dial(address, 22) };
  }

  activeForwards(): Record<string, readonly Forward[]> {
    const { store, forwards } = this.options;
    return Object.fromEntries(Object.keys(store.current.machines).map((name) => [name, forwards.active(name)]));
  }

  /** Waits for machines; answers at once when they cannot become that by themselves. */
  async wait(
    { machines, until, timeoutMs }: Extract<Call, { do: 'wait' }>,
    signal: AbortSignal,
  ): Promise<readonly Waited[]> {
    const { store, engine, changes } = this.options;
    const limit = new AbortController();
    const timer = timeoutMs === undefined ? undefined : setTimeout(() => limit.abort(), timeoutMs);
    try {
      const waited = await waitForAll(
        machines,
        until,
        {
          look: (name) => {
            const state = store.current;
            return { record: state.machines[name], observed: observe(state).machines[name] ?? { state: 'absent' } };
          },
          busy: () => this.commands > 0,
          changes,
          ended: (name, either) => engine.ended(name, either),
          reach: (name, either) => engine.reach(name, either),
          untilHealthy: (name, either) => engine.untilHealthy(name, either),
        },
        AbortSignal.any([signal, limit.signal]),
      );
      signal.throwIfAborted();
      return waited;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends the sandbox when nothing needs it: no machine runs. */
  async leave(): Promise<boolean> {
    const { store, engine } = this.options;
    const running = Object.values(observe(store.current).machines).some(
      (machine) => machine.state === 'running' || machine.state === 'broken',
    );
    if (running || engine.hasWork) return false;
    if (store.current.sandbox !== undefined) {
      await engine.perform(
        { do: 'sandbox.remove' },
        { project: undefined, boxes: {}, force: true, emit: () => {}, signal: new AbortController().signal },
      );
    }
    return true;
  }
}

function reconcileRequest(command: ProjectCommand | OneOffWork, layers: ServiceOptions['layers']) {
  switch (command.command) {
    case 'up':
    case 'reload':
      return {
        command: command.command,
        wanted: command.project,
        targets: command.targets,
        options: { provision: command.provision, wait: command.wait, ...cacheOf(command, layers) },
      } as const;
    case 'provision':
      return {
        command: command.command,
        wanted: command.project,
        targets: command.targets,
        options: {
          ...(command.only === undefined ? {} : { only: command.only }),
          ...(command.noCache === true ? { forget: true } : {}),
        },
      } as const;
    case 'run':
      return { command: command.command, wanted: command.project, target: command.target } as const;
    case 'restart':
    case 'pause':
    case 'unpause':
    case 'suspend':
    case 'resume':
    case 'volume rm':
      return { command: command.command, targets: command.targets } as const;
    case 'snapshot save':
    case 'snapshot restore':
    case 'snapshot delete':
      return command;
    case 'rename':
    case 'clone':
      return { command: command.command, wanted: command.project, from: command.from, to: command.to } as const;
    case 'halt':
    case 'destroy':
      return { command: command.command, wanted: command.project, targets: command.targets } as const;
  }
}

/** Nobody looks into the store for a project whose machines do not use the cache. */
function cacheOf(
  { project, boxes, noCache = false }: Extract<ProjectCommand, { command: 'up' | 'reload' }>,
  layers: ServiceOptions['layers'],
): { readonly cache?: CacheView } {
  const machines = project.machines.filter(({ cache }) => cache === true);
  if (machines.length === 0) return {};
  const digests = machines.flatMap(({ name, box, kind }) => {
    const digest = boxes[boxKey(box, kind)];
    return digest === undefined ? [] : [[name, digest] as const];
  });
  return { cache: { digests: Object.fromEntries(digests), layers: layers(), anew: noCache } };
}
