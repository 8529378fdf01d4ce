import type { Emit } from './events.ts';
import type { Action, StepOutcome } from './plan.ts';

/** Told when something is over: what it was, in a few words, and how long it took. */
export type Measure = (what: string, ms: number) => void;

export interface TimedPart {
  readonly what: string;
  readonly ms: number;
}

/** One thing that a command did: a step of the plan (`action`), or something before and around the steps (`what`). */
export type Timed = {
  readonly ms: number;
  /** What came after it had to wait for it: were it faster, so were the command. */
  readonly critical: boolean;
  /** One after the other; they need not be all of it. */
  readonly parts: readonly TimedPart[];
} & ({ readonly what: string } | { readonly action: Action; readonly outcome: StepOutcome });

/** Where the time of a command went. */
export interface Timings {
  /** In the order of the plan, which has dependencies first. Steps that were left out are not in it. */
  readonly phases: readonly Timed[];
  /** Of those phases which came one after the other because each needed the one before. */
  readonly criticalMs: number;
  /** From the start of the process. */
  readonly wallMs: number;
}

/**
 * Reports what took place one after the other, each when it is over. Does nothing without `emit`.
 * @param since when the first of them began, as performance.now() gives it: 0 is the start of the process
 */
export function laps(emit: Emit | undefined, since: number): (what: string) => void {
  let last = since;
  return (what) => {
    if (emit === undefined) return;
    const now = performance.now();
    emit({ type: 'timing', what, ms: Math.round(now - last) });
    last = now;
  };
}
