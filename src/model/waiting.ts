import { endingWords, hasSucceeded, isCompleted } from './ending.ts';
import type { MachineState, Observed } from './state.ts';

/** What `tsv wait` waits for. */
export const conditions = ['healthy', 'running', 'completed', 'stopped'] as const;
export type Condition = (typeof conditions)[number];

/** How waiting for one machine went. */
export interface Waited {
  readonly machine: string;
  readonly met: boolean;
  /** What the machine is now, in a few words. */
  readonly is: string;
}

/** One look at a machine; without a record it was never made. */
export interface Look {
  readonly record: MachineState | undefined;
  readonly observed: Observed;
}

/** A one-shot machine is not waited for until it can be reached. */
const isReached = (record: MachineState | undefined): boolean =>
  record?.ready === true || record?.spec.oneshot === true;

export function isMet(condition: Condition, { record, observed }: Look): boolean {
  switch (condition) {
    case 'stopped':
      return observed.state === 'stopped' || observed.state === 'absent';
    case 'completed':
      return observed.state === 'stopped' && observed.ended !== undefined && hasSucceeded(observed.ended);
    case 'running':
      return observed.state === 'running' && record?.paused !== true && isReached(record);
    case 'healthy':
      return isMet('running', { record, observed }) && record?.health?.status === 'healthy';
  }
}

/** `running (healthy)`, `stopped (ended with 3)`, `completed`, `not created`: what a machine is. */
export function stateWords({ record, observed }: Look): string {
  switch (observed.state) {
    case 'absent':
      return 'not created';
    case 'broken':
      return `broken (${observed.reasons.join(', ')})`;
    case 'stopped':
      if (record?.suspended?.memory === true) return 'suspended';
      if (record !== undefined && isCompleted(record.spec, observed)) return 'completed';
      return observed.ended === undefined ? 'stopped' : `stopped (${endingWords(observed.ended)})`;
    case 'running':
      if (record?.paused === true) return 'paused';
      if (!isReached(record)) return 'starting';
      return record?.health === undefined ? 'running' : `running (${record.health.status})`;
  }
}
