import { TsvError } from '../model/errors.ts';
import type { Plan } from '../model/plan.ts';
import type { Machine, Project } from '../model/project.ts';
import type { Observation } from '../model/state.ts';
import { addReady, type Ready } from './add-ready.ts';
import { PlanBuilder } from './builder.ts';
import { layersOf } from './cache.ts';
import { askedSteps, checkStepName, type DueStep } from './provisioning.ts';
import { inDependencyOrder, resolveTargets } from './targets.ts';

/** `tsv provision`: runs steps on machines that run; starts none. Without targets: on all that run. */
export function planProvision(
  wanted: Project,
  observation: Observation,
  targets: readonly string[],
  { only, forget = false }: { readonly only?: string; readonly forget?: boolean },
): Plan {
  const plan = new PlanBuilder();
  const isRunning = (name: string) => observation.machines[name]?.state === 'running';
  const all = wanted.machines.map(({ name }) => name);
  const named = targets.length === 0 ? all : resolveTargets(targets, wanted.machines);
  const running = named.filter(isRunning);
  const missing = targets.length === 0 ? (running.length === 0 ? all : []) : named.filter((name) => !isRunning(name));
  if (missing.length > 0) {
    throw new TsvError('TSV_NOT_RUNNING', `not running: ${missing.join(', ')}`, {
      hint: targets.length === 0 ? 'tsv up' : `tsv up ${missing.join(' ')}`,
    });
  }
  const machines = inDependencyOrder(wanted.machines.filter(({ name }) => running.includes(name)));
  if (only !== undefined) checkStepName(only, machines);

  const ready = new Map<string, Ready>();
  for (const machine of machines) {
    const steps = askedSteps(machine, only);
    if (steps.length === 0) continue;
    const layers = forget ? forgotten(machine, steps, wanted, observation) : [];
    if (layers.length > 0) plan.add({ do: 'machine.forget', machine: machine.name, layers }, 'asked for');
    addReady(plan, ready, machine, {
      waitCause: observation.state?.machines[machine.name]?.ready === true ? undefined : 'not ready',
      steps,
      last: machine.healthcheck === undefined ? undefined : 'healthy',
      neededBy: {},
    });
  }
  return plan.plan();
}

/** Keys of what the steps make, and of all that rests on it. */
function forgotten(
  machine: Machine,
  steps: readonly DueStep[],
  project: Project,
  { state }: Observation,
): readonly string[] {
  const layers = layersOf(machine, project, state?.machines[machine.name]?.boxDigest ?? '');
  const first = layers.findIndex(({ step }) => steps.some(({ name }) => name === step));
  return first < 0 ? [] : layers.slice(first).map(({ key }) => key);
}
