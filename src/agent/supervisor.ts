import { TsvError } from '../model/errors.ts';
import type { MachineHappening } from '../model/machine-event.ts';
import type { Ending, MachineState, ProcessRef } from '../model/state.ts';
import { waitExit } from '../sys/children.ts';
import { Mutex } from '../sys/mutex.ts';
import { isAlive } from '../sys/process.ts';
import { endsInRow, restartPauseMs } from './restart.ts';

export interface SupervisorOptions {
  record(name: string): MachineState | undefined;
  update(name: string, change: (record: MachineState) => MachineState): Promise<unknown>;
  /** See {@link Provider.ending}. */
  ending(name: string): Promise<Ending>;
  /** Lets go of what led to a machine that is gone: connections, forwards. */
  release(name: string): Promise<void>;
  start(name: string, signal: AbortSignal): Promise<void>;
  /** Until a machine that was started can be reached. */
  wait(name: string, signal: AbortSignal): Promise<void>;
  happened(name: string, event: MachineHappening): void;
  /** A machine has ended for good, whoever ended it. */
  gone(): void;
}

/** Notices how machines end, and starts those again whose restart policy wants it. */
export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #turns = new Map<string, Mutex>();
  /** Machines that are to be, or are being, started again. */
  readonly #restarts = new Map<string, AbortController>();
  /** Processes that run, or whose end has not been looked at yet. */
  #watched = 0;
  /** Ends in a row, by machine. */
  readonly #inRow = new Map<string, number>();
  readonly #waiters = new Map<string, Set<() => void>>();

  constructor(options: SupervisorOptions) {
    this.#options = options;
  }

  /** Whether a machine is, or may be, to be started again: then there is work for this agent, though nothing runs. */
  get hasWork(): boolean {
    return this.#restarts.size > 0 || this.#watched > 0;
  }

  /** Starts, stops and ends of one machine come one after the other. */
  inTurn<T>(name: string, work: () => Promise<T>): Promise<T> {
    let turn = this.#turns.get(name);
    if (turn === undefined) {
      turn = new Mutex();
      this.#turns.set(name, turn);
    }
    return turn.run(work);
  }

  /** The record of a machine that does not run and is not about to. In its turn. @throws TSV_NOT_RUNNING, TSV_USAGE */
  ofStopped(name: string): MachineState {
    const record = this.#options.record(name);
    if (record === undefined) throw new TsvError('TSV_NOT_RUNNING', `${name} does not exist`, { hint: 'tsv status' });
    // An end that has not been looked at yet may lead to a restart.
    if (this.#restarts.has(name) || (record.process !== undefined && record.ended === undefined))
      throw new TsvError('TSV_USAGE', `${name} runs, or is about to start again`, { hint: `tsv halt ${name}` });
    return record;
  }

  /** A command decides about the machine from here on: no restart of ours gets in its way. */
  forget(name: string): void {
    this.#restarts.get(name)?.abort();
    this.#restarts.delete(name);
    this.#inRow.delete(name);
  }

  /** From its start on. */
  watch(name: string): void {
    const process = this.#options.record(name)?.process;
    if (process === undefined) return;
    // Between an end and its notice nothing runs any more, and yet it may have to start again.
    this.#watched++;
    void waitExit(process.pid)
      .then(() => this.inTurn(name, () => this.#ended(name, process, { restart: true })))
      .finally(() => {
        this.#watched--;
        this.#options.gone();
      });
  }

  /**
   * What an earlier agent has started: is watched, or its end is caught up on.
   * @param restart false where its sandbox is another by now
   */
  async adopt(name: string, { restart }: { readonly restart: boolean }): Promise<void> {
    const process = this.#options.record(name)?.process;
    if (isAlive(process)) this.watch(name);
    else if (process !== undefined) await this.inTurn(name, () => this.#ended(name, process, { restart }));
  }

  /**
   * Resolves when the machine has ended and is not started again; at once if that is so.
   * @throws TSV_NOT_RUNNING when it was stopped by a command
   */
  async ended(name: string, signal: AbortSignal): Promise<Ending> {
    for (;;) {
      signal.throwIfAborted();
      const change = this.#change(name, signal);
      change.catch(() => {}); // it may not be waited for
      // In its turn: that it has ended is known before it is decided whether it starts again.
      const ending = await this.inTurn(name, async () => {
        const record = this.#options.record(name);
        if (record?.process === undefined)
          throw new TsvError('TSV_NOT_RUNNING', `${name} was stopped`, { hint: `tsv up ${name}` });
        return isAlive(record.process) || this.#restarts.has(name) ? undefined : record.ended;
      });
      if (ending !== undefined) return ending;
      await change;
    }
  }

  /** Whoever waits for an end looks again. */
  tell(name: string): void {
    for (const wake of this.#waiters.get(name) ?? []) wake();
  }

  #change(name: string, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiters = this.#waiters.get(name) ?? new Set();
      this.#waiters.set(name, waiters);
      const done = (end: () => void) => () => {
        waiters.delete(wake);
        signal.removeEventListener('abort', abort);
        end();
      };
      const wake = done(resolve);
      const abort = done(() => reject(signal.reason));
      waiters.add(wake);
      signal.addEventListener('abort', abort, { once: true });
    });
  }

  async #ended(name: string, process: ProcessRef, { restart }: { readonly restart: boolean }): Promise<void> {
    const { record, update, ending: endingOf, release, happened } = this.#options;
    const before = record(name);
    // Stopped by a command, or started again since: nothing has ended by itself.
    if (before?.process?.pid !== process.pid || before.process.startTime !== process.startTime || isAlive(process))
      return;
    // Known already where the agent before this one was killed in the pause before a restart.
    const ending = before.ended ?? (await endingOf(name));
    if (before.ended === undefined) {
      await update(name, ({ health: _, paused: __, ...current }) => ({ ...current, ended: ending, ready: false }));
      happened(name, { type: 'ended', ending });
    }
    await release(name);
    const ranMs = Date.parse(ending.at) - Date.parse(before.startedAt ?? ending.at);
    const inRow = endsInRow(this.#inRow.get(name) ?? before.restarts ?? 0, ranMs);
    const pauseMs = restart ? restartPauseMs(before.spec.restart, ending, inRow) : undefined;
    if (pauseMs === undefined) {
      const { most } = before.spec.restart ?? {};
      if (most !== undefined && inRow > most) happened(name, { type: 'given-up', attempts: most });
    } else {
      this.#inRow.set(name, inRow);
      this.#restartLater(name, process, ending, pauseMs);
      happened(name, { type: 'restarting', inMs: pauseMs, attempt: inRow });
    }
    this.tell(name);
  }

  #restartLater(name: string, process: ProcessRef, ending: Ending, pauseMs: number): void {
    const abort = new AbortController();
    this.#restarts.set(name, abort);
    const timer = setTimeout(() => void this.#restart(name, process, ending, abort.signal), pauseMs);
    abort.signal.addEventListener('abort', () => clearTimeout(timer), { once: true });
  }

  async #restart(name: string, process: ProcessRef, ending: Ending, signal: AbortSignal): Promise<void> {
    const { record, update, start, wait, gone } = this.#options;
    let watched = false;
    try {
      await this.inTurn(name, async () => {
        if (signal.aborted || record(name)?.process?.pid !== process.pid) return;
        await update(name, (current) => ({ ...current, restarts: (current.restarts ?? 0) + 1 }));
        await start(name, signal);
        this.watch(name);
        watched = true;
      });
      if (!signal.aborted) await wait(name, signal);
    } catch (error) {
      // Once it is watched its end is noticed there. A start that failed is an end, too.
      const now = record(name)?.process;
      if (!watched && !signal.aborted && now !== undefined && !isAlive(now)) {
        const detail = `it could not be started again: ${error instanceof Error ? error.message : String(error)}`;
        await update(name, (current) => ({ ...current, ended: { ...ending, detail } }));
        const inRow = (this.#inRow.get(name) ?? 0) + 1;
        const pauseMs = restartPauseMs(record(name)?.spec.restart, ending, inRow);
        this.#inRow.set(name, inRow);
        if (pauseMs !== undefined) return this.#restartLater(name, now, ending, pauseMs);
      }
    }
    // Unless it has ended once more meanwhile, and has a new entry.
    if (!signal.aborted && this.#restarts.get(name)?.signal === signal) this.#restarts.delete(name);
    this.tell(name);
    gone();
  }
}
