import type { Action } from '../model/plan.ts';
import type { Dependency, Machine } from '../model/project.ts';
import type { PlanBuilder } from './builder.ts';
import type { DueStep } from './provisioning.ts';

/** The nodes after which a machine is what others may depend on; undefined: it already is. */
export type Ready = Readonly<Record<Dependency['condition'], number | undefined>>;

/** What a machine's dependencies have to reach first, as node ids. */
export function gatesOf(machine: Machine, ready: ReadonlyMap<string, Ready>): readonly (number | undefined)[] {
  return machine.dependsOn.map((dependency) => ready.get(dependency.machine)?.[dependency.condition]);
}

/** By condition: a machine that starts in this plan and waits for this one. */
export type NeededBy = { readonly [Condition in Dependency['condition']]?: string };

/**
 * Adds what follows a machine's start: wait, provisioning steps one after the other, and then its health or, of a one-shot
 * machine, its end; and notes in `ready` what dependents have to wait for. Dependencies of the machine must have been added
 * before.
 */
export function addReady(
  plan: PlanBuilder,
  ready: Map<string, Ready>,
  machine: Machine,
  options: {
    /** The node that starts it in this plan. */
    readonly start?: number;
    /** The node that adjusts its limits: steps get the new ones, nothing else waits for them. */
    readonly adjust?: number;
    readonly waitCause: string | undefined;
    /** What else the wait comes after: former owners of ports that it opens. */
    readonly waitAfter?: readonly number[];
    readonly steps: readonly DueStep[];
    /** What is waited for in the end: its health, its end, or nothing more. */
    readonly last: 'healthy' | 'completed' | undefined;
    readonly neededBy: NeededBy;
  },
): void {
  const { name } = machine;
  let last = options.start;
  if (options.waitCause !== undefined) {
    last = plan.add({ do: 'machine.wait', machine: name }, options.waitCause, [last, ...(options.waitAfter ?? [])]);
  }
  for (const step of options.steps) {
    const first = options.start === undefined && step === options.steps[0];
    const after = first ? [last, options.adjust, ...gatesOf(machine, ready)] : [last];
    last = plan.add(provisionAction(name, step), step.cause, after);
  }
  const touched = options.start !== undefined ? 'started' : options.steps.length > 0 ? 'provisioned' : undefined;
  const needer = options.last === undefined ? undefined : options.neededBy[options.last];
  const cause = touched ?? (needer === undefined ? undefined : `${needer} needs it`);
  const end =
    options.last === undefined || cause === undefined
      ? last
      : plan.add({ do: `machine.${options.last}`, machine: name }, cause, [last]);
  ready.set(name, { started: last, healthy: end, completed: end });
}

function provisionAction(machine: string, { name, cached, layer, anew }: DueStep): Action {
  if (cached === true) return { do: 'machine.cached', machine, step: name };
  return {
    do: 'machine.provision',
    machine,
    step: name,
    ...(layer === undefined ? {} : { layer }),
    ...(anew === undefined ? {} : { anew }),
  };
}
