import type { Emit } from '../model/events.ts';
import type { Project } from '../model/project.ts';
import { oneOffName } from '../plan/one-off.ts';
import type { StateStore } from '../state/store.ts';
import type { Call } from './protocol.ts';

export interface OneOffOptions {
  readonly store: StateStore;
  /** Brings up one machine of a project. */
  bringUp(work: OneOffWork, emit: Emit, signal: AbortSignal): Promise<unknown>;
  /** Removes it; gone, or somebody else's by now: success. */
  remove(name: string): Promise<void>;
}

/** See {@link ReconcileRequest}. */
export interface OneOffWork {
  readonly command: 'run';
  readonly project: Project;
  readonly target: string;
  readonly boxes: Readonly<Record<string, string>>;
}

/**
 * Containers for one command each. Such a one is a machine of the project like others, only that no Tsfile has it: plans leave
 * it alone, its record says what it is, and who finds it without its command removes it. Its first process is the small init;
 * the command is run in it, so that its input, output, terminal and signals go the way of all commands in machines.
 */
export class OneOffs {
  readonly #options: OneOffOptions;
  /** Those that are being made, are there, or are being removed. */
  readonly #live = new Map<string, { removal?: Promise<void> }>();

  constructor(options: OneOffOptions) {
    this.#options = options;
  }

  /** Makes and starts one. In turn with all that changes the project. @returns its name @throws TSV_USAGE when that is taken */
  async start(call: Extract<Call, { do: 'one-off' }>, emit: Emit, signal: AbortSignal): Promise<string> {
    const { project, boxes } = call;
    const taken = [project, { machines: Object.values(this.#options.store.current.machines).map(({ spec }) => spec) }];
    const names = taken.flatMap(({ machines }) => machines.flatMap((machine) => [machine.name, machine.group]));
    const name = oneOffName(call.name, new Set([...names, ...this.#live.keys()]));
    this.#live.set(name, {});
    const machine = { ...call.machine, name, group: name, hostname: name };
    try {
      await this.#options.bringUp(
        { command: 'run', project: { ...project, machines: [machine] }, target: name, boxes },
        // The plan says that this agent has begun; its steps are for nobody.
        (event) => (event.type === 'plan' || event.type === 'notice') && emit(event),
        signal,
      );
      return name;
    } catch (error) {
      await this.end(name);
      throw error;
    }
  }

  /** Ends and removes one, once. */
  async end(name: string): Promise<void> {
    const live = this.#live.get(name);
    if (live === undefined) return;
    live.removal ??= this.#options.remove(name).finally(() => this.#live.delete(name));
    await live.removal;
  }
}
