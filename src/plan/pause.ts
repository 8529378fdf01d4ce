import type { Plan } from '../model/plan.ts';
import type { Observation } from '../model/state.ts';
import { PlanBuilder } from './builder.ts';
import { resolveTargets } from './targets.ts';

/** `pause` and `unpause`: of the machines that run, those that are not so already. @throws TSV_UNKNOWN_MACHINE */
export function planPause(
  command: 'pause' | 'unpause',
  { state, machines }: Observation,
  targets: readonly string[],
): Plan {
  const plan = new PlanBuilder();
  const records = state?.machines ?? {};
  const specs = Object.values(records).map(({ spec }) => spec);
  const chosen = new Set(targets.length === 0 ? Object.keys(records) : resolveTargets(targets, specs));
  for (const { name } of specs) {
    const isPaused = records[name]?.paused === true;
    if (!chosen.has(name) || machines[name]?.state !== 'running' || isPaused === (command === 'pause')) continue;
    plan.add({ do: `machine.${command}`, machine: name }, command);
  }
  return plan.plan();
}
