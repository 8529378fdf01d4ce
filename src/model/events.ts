import type { ErrorData } from './errors.ts';
import type { Plan, StepOutcome } from './plan.ts';
import type { Timings } from './timings.ts';

/** Everything that a command reports while it runs. Renderers print these and decide nothing. */
export type TsvEvent =
  | { readonly type: 'waiting'; readonly forCommand: string; readonly pid: number; readonly since: string }
  | { readonly type: 'plan'; readonly plan: Plan }
  | { readonly type: 'step.start'; readonly id: number }
  | { readonly type: 'step.progress'; readonly id: number; readonly text: string }
  | {
      readonly type: 'step.end';
      readonly id: number;
      readonly outcome: StepOutcome;
      readonly ms: number;
      readonly error?: ErrorData;
    }
  | {
      readonly type: 'output';
      readonly machine: string;
      readonly step: string;
      readonly stream: 'stdout' | 'stderr';
      readonly text: string;
    }
  /**
   * Only where timings were asked for: how long something took that is no step or, with `id`, a part of that step. What has no
   * `id` took place before all that comes after it.
   */
  | { readonly type: 'timing'; readonly id?: number; readonly what: string; readonly ms: number }
  /** The last one, where timings were asked for. */
  | ({ readonly type: 'timings' } & Timings)
  | { readonly type: 'notice'; readonly machine?: string; readonly text: string }
  | { readonly type: 'warning'; readonly machine?: string; readonly text: string };

export type Emit = (event: TsvEvent) => void;
