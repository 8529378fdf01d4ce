import { isCompleted } from '../model/ending.ts';
import type { Dependency, Machine } from '../model/project.ts';
import type { MachineState } from '../model/state.ts';
import type { addReady, NeededBy } from './add-ready.ts';
import type { Situation } from './bring-up.ts';
import { forwardsChanged, isStarted } from './changes.ts';
import { dueSteps } from './provisioning.ts';

/** What comes after a machine's start, or is left to do on one that runs. */
export function followUp(
  machine: Machine,
  situation: Situation,
  { starts, record }: { readonly starts: boolean; readonly record: MachineState | undefined },
): Pick<Parameters<typeof addReady>[3], 'waitCause' | 'steps' | 'last' | 'neededBy'> {
  const { observation, options } = situation;
  const { name } = machine;
  const neededBy = neededByOf(name, situation);
  const done = !starts && isCompleted(machine, observation.machines[name] ?? { state: 'absent' });
  if (done) return { waitCause: undefined, steps: [], last: undefined, neededBy };
  const isGate = options.wait || Object.keys(neededBy).length > 0;
  const steps = isGate ? dueSteps(machine, record, options.provision) : [];
  const cause = starts ? 'started' : record === undefined ? undefined : whyWait(machine, record);
  // A container can be reached as soon as it runs: that is no wait. A one-shot machine may have ended by then.
  const reach = machine.oneshot === true ? steps.length > 0 : isGate || machine.kind === 'container';
  const end = endOf(machine, situation);
  return {
    waitCause: reach || cause === 'forwards changed' ? cause : undefined,
    steps,
    last: end !== undefined && (options.wait || neededBy[end] !== undefined) ? end : undefined,
    neededBy,
  };
}

/** Those of `machines` that want something of this one, and what. */
const dependentsOf = (name: string, machines: readonly Machine[]) =>
  machines.flatMap((other) =>
    other.dependsOn.filter(({ machine }) => machine === name).map(({ condition }) => ({ name: other.name, condition })),
  );

/** Who starts in this plan and needs this one first: the first of them for each condition. */
function neededByOf(name: string, { machines, fates }: Situation): NeededBy {
  const starting = machines.filter((other) => isStarted(fates.get(other.name)));
  const needers = dependentsOf(name, starting).toReversed();
  return Object.fromEntries(needers.map((other) => [other.condition, other.name]));
}

/**
 * What can be waited for in the end. What an image's health check is shows when it is there: it is asked for where a
 * machine waits for it. Whether a one-shot machine completes matters to those that depend on it.
 */
function endOf(machine: Machine, { wanted }: Situation): 'healthy' | 'completed' | undefined {
  const isAsked = (condition: Dependency['condition']) =>
    dependentsOf(machine.name, wanted.machines).some((other) => other.condition === condition);
  if (machine.oneshot === true) return isAsked('completed') ? 'completed' : undefined;
  if (machine.healthcheck !== undefined) return 'healthy';
  return machine.image !== undefined && isAsked('healthy') ? 'healthy' : undefined;
}

/** Why a machine that keeps running has to be waited for; the wait also puts its forwards in place. */
function whyWait(machine: Machine, record: MachineState): string | undefined {
  if (!record.ready) return 'not ready';
  return forwardsChanged(record.spec, machine) ? 'forwards changed' : undefined;
}
