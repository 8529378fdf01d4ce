import type { Machine } from '../model/project.ts';
import type { PlanBuilder } from './builder.ts';
import type { DueStep } from './provisioning.ts';

/** The nodes after which a machine counts as started, or as healthy; undefined: it already does. */
export interface Ready {
  readonly started: number | undefined;
  readonly healthy: number | undefined;
}

/** What a machine's dependencies have to reach first, as node ids. */
export function gatesOf(machine: Machine, ready: ReadonlyMap<string, Ready>): readonly (number | undefined)[] {
  return machine.dependsOn.map(
    (dependency) => ready.get(dependency.machine)?.[dependency.condition === 'healthy' ? 'healthy' : 'started'],
  );
}

/**
 * Adds what follows a machine's start: wait, provisioning steps one after the other, health check; and notes in
 * `ready` what dependents have to wait for. Dependencies of the machine must have been added before.
 */
export function addReady(
  plan: PlanBuilder,
  ready: Map<string, Ready>,
  machine: Machine,
  options: {
    /** The node that starts it in this plan. */
    readonly start?: number;
    readonly waitCause: string | undefined;
    /** What else the wait comes after: former owners of ports that it opens. */
    readonly waitAfter?: readonly number[];
    readonly steps: readonly DueStep[];
    /** Whether it can be asked for its health. */
    readonly hasCheck: boolean;
    /** A machine that starts in this plan and wants this one healthy. */
    readonly neededBy: string | undefined;
  },
): void {
  const { name } = machine;
  let last = options.start;
  if (options.waitCause !== undefined) {
    last = plan.add({ do: 'machine.wait', machine: name }, options.waitCause, [last, ...(options.waitAfter ?? [])]);
  }
  for (const step of options.steps) {
    const first = options.start === undefined && step === options.steps[0];
    const after = first ? [last, ...gatesOf(machine, ready)] : [last];
    last = plan.add({ do: 'machine.provision', machine: name, step: step.name }, step.cause, after);
  }
  const touched = options.start !== undefined ? 'started' : options.steps.length > 0 ? 'provisioned' : undefined;
  const healthCause = touched ?? (options.neededBy === undefined ? undefined : `${options.neededBy} needs it`);
  const healthy =
    !options.hasCheck || healthCause === undefined
      ? last
      : plan.add({ do: 'machine.healthy', machine: name }, healthCause, [last]);
  ready.set(name, { started: last, healthy });
}
