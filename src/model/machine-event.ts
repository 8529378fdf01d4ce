import type { Ending, Health } from './state.ts';

/** Something that happened to a machine, whoever caused it: one line of `.ts-vm/events.ndjson`, and of `tsv events`. */
export interface MachineEvent {
  /** ISO 8601, with milliseconds. */
  readonly time: string;
  readonly machine: string;
  readonly event: MachineHappening;
}

export type MachineHappening =
  | {
      readonly type:
        | 'created'
        | 'started'
        | 'ready'
        | 'stopped'
        | 'destroyed'
        | 'paused'
        | 'unpaused'
        | 'suspended'
        | 'resumed';
    }
  | { readonly type: 'saved' | 'restored'; readonly snapshot: string }
  /** It is the machine that was called so. */
  | { readonly type: 'renamed'; readonly from: string }
  /** It is new, and a copy of another one, which goes on to be there. */
  | { readonly type: 'cloned'; readonly from: string }
  /** `cached`: by the layer that it was made from. */
  | { readonly type: 'provisioned'; readonly step: string; readonly cached?: true }
  /** Limits of a machine that ran on: those of the Tsfile, by their keys there. */
  | { readonly type: 'adjusted'; readonly limits: readonly string[] }
  /** It ended without having been asked to. */
  | { readonly type: 'ended'; readonly ending: Ending }
  /** Its restart policy starts it again after this pause; the `attempt`th time in a row. */
  | { readonly type: 'restarting'; readonly inMs: number; readonly attempt: number }
  /** It has ended once more, and is not started again. */
  | { readonly type: 'given-up'; readonly attempts: number }
  | { readonly type: 'signalled'; readonly signal: string }
  | { readonly type: 'health'; readonly health: Health };
