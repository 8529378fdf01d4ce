import { TsvError } from '../model/errors.ts';
import type { Action } from '../model/plan.ts';
import type { ExecutionResult } from '../plan/execute.ts';

/** What a step waits for, where it does nothing but wait. */
const waitedFor = (action: Action): string | undefined => {
  switch (action.do) {
    case 'machine.wait':
      return `${action.machine} could not be reached`;
    case 'machine.healthy':
      return `${action.machine} was not healthy`;
    case 'machine.completed':
      return `${action.machine} had not completed`;
    default:
      return undefined;
  }
};

/** `tsv up --timeout`: one time for all steps that wait. A step that does something is not cut short by it. */
export class Deadline {
  readonly #ms: number | undefined;
  readonly #over = new AbortController();
  readonly #timer: NodeJS.Timeout | undefined;
  readonly #missed: string[] = [];

  /** Begins now. Without `ms` it never comes. */
  constructor(ms: number | undefined) {
    this.#ms = ms;
    if (ms !== undefined) this.#timer = setTimeout(() => this.#over.abort(), ms);
  }

  /** @throws TSV_WAIT when the time is over before the wait is */
  async hold(action: Action, signal: AbortSignal, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const what = waitedFor(action);
    if (what === undefined || this.#ms === undefined) return work(signal);
    try {
      await work(AbortSignal.any([signal, this.#over.signal]));
    } catch (error) {
      if (!this.#over.signal.aborted || signal.aborted) throw error;
      this.#missed.push(what);
      throw new TsvError('TSV_WAIT', `${what} within ${this.#ms / 1000} s`, { hint: 'tsv up   # goes on from here' });
    }
  }

  /** The error of a command: one for all that was missing, where nothing else went wrong. */
  summary(result: ExecutionResult, error: TsvError): TsvError {
    const failed = result.steps.filter(({ outcome }) => outcome === 'failed');
    if (this.#missed.length < 2 || failed.length !== this.#missed.length || this.#ms === undefined) return error;
    return new TsvError('TSV_WAIT', `not everything was ready within ${this.#ms / 1000} s`, {
      details: [...this.#missed, ...error.details.filter((line) => line.startsWith('not done'))],
      hint: 'tsv up   # goes on from here',
    });
  }

  close(): void {
    clearTimeout(this.#timer);
  }
}
