import type { Restart } from '../model/project.ts';
import type { Ending } from '../model/state.ts';

/** As Docker's (docs: "Restart policies"): a run of this length forgets the failures before it. */
const steadyMs = 10_000;
const firstPauseMs = 100;
const longestPauseMs = 60_000;

/** How often in a row a machine has ended; the first end of a machine that ran long enough is number 1. */
export const endsInRow = (before: number, ranMs: number): number => (ranMs >= steadyMs ? 1 : before + 1);

/**
 * The pause before a machine that has ended by itself starts again; undefined: it does not.
 * Doubles from 0.1 s to one minute while it keeps ending.
 * @param inRow which end in a row this is, from 1
 */
export function restartPauseMs(policy: Restart | undefined, ending: Ending, inRow: number): number | undefined {
  if (policy === undefined) return undefined;
  if (policy.when === 'on-failure' && ending.why === 'exited' && ending.code === 0) return undefined;
  if (policy.most !== undefined && inRow > policy.most) return undefined;
  return Math.min(firstPauseMs * 2 ** (inRow - 1), longestPauseMs);
}
