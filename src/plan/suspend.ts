import { TsvError } from '../model/errors.ts';
import type { Plan } from '../model/plan.ts';
import type { Observation } from '../model/state.ts';
import { bringUp } from './bring-up.ts';
import { PlanBuilder } from './builder.ts';
import { asItIs } from './restart.ts';
import { mayRun } from './take-down.ts';
import { inDependencyOrder, resolveTargets } from './targets.ts';

/**
 * `suspend`: of the machines that run, dependents before what they depend on. Containers are halted, unless they are named.
 * @throws TSV_UNKNOWN_MACHINE, TSV_UNSUPPORTED
 */
export function planSuspend({ state, machines, sandboxAlive }: Observation, targets: readonly string[]): Plan {
  const plan = new PlanBuilder();
  const specs = Object.values(state?.machines ?? {}).map(({ spec }) => spec);
  const lasting = specs.filter(({ oneOff }) => oneOff !== true);
  const chosen = new Set(targets.length === 0 ? lasting.map(({ name }) => name) : resolveTargets(targets, specs));
  const containers = specs.filter(({ name, kind }) => kind === 'container' && chosen.has(name)).map(({ name }) => name);
  if (targets.length > 0 && containers.length > 0) {
    throw new TsvError('TSV_UNSUPPORTED', `containers cannot be suspended: ${containers.join(', ')}`, {
      details: ['the memory of their processes is the host’s, and cannot be saved'],
      hint: `tsv pause ${containers.join(' ')} keeps them in memory; tsv halt ${containers.join(' ')} ends them`,
    });
  }
  const running = specs.filter(({ name }) => chosen.has(name) && machines[name]?.state === 'running');
  const ends = new Map<string, number>();
  for (const { name, kind } of inDependencyOrder(running).toReversed()) {
    const dependents = running.filter((other) => other.dependsOn.some(({ machine }) => machine === name));
    const cause = kind === 'container' ? 'a container: it is halted' : 'suspend';
    const after = dependents.map((other) => ends.get(other.name));
    ends.set(name, plan.add({ do: 'machine.suspend', machine: name }, cause, after));
  }
  const othersRun = specs.some(({ name }) => !ends.has(name) && mayRun(machines[name]));
  if (ends.size > 0 && sandboxAlive && !othersRun) plan.add({ do: 'sandbox.remove' }, 'last machine', ends.values());
  return plan.plan();
}

/** `resume`: what is suspended goes on as it was, whatever the Tsfile says. @throws TSV_UNKNOWN_MACHINE, TSV_USAGE */
export function planResume(observation: Observation, targets: readonly string[]): Plan {
  const { state } = observation;
  if (state === undefined) return { nodes: [] };
  const isSuspended = (name: string) =>
    state.machines[name]?.suspended !== undefined && observation.machines[name]?.state !== 'running';
  const specs = Object.values(state.machines).map(({ spec }) => spec);
  const named = targets.length === 0 ? [] : resolveTargets(targets, specs);
  const others = named.filter((name) => !isSuspended(name));
  if (others.length > 0)
    throw new TsvError('TSV_USAGE', `not suspended: ${others.join(', ')}`, { hint: `tsv up ${others.join(' ')}` });
  const chosen = new Set(targets.length === 0 ? Object.keys(state.machines).filter(isSuspended) : named);
  if (chosen.size === 0) return { nodes: [] };
  return bringUp(asItIs(state, chosen), observation, {
    targets: [...chosen],
    reload: false,
    provision: false,
    wait: true,
  });
}
