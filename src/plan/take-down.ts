import { isCompleted } from '../model/ending.ts';
import type { Plan } from '../model/plan.ts';
import type { Project } from '../model/project.ts';
import type { Observation, Observed } from '../model/state.ts';
import { PlanBuilder } from './builder.ts';
import { whyStopped } from './changes.ts';
import { inDependencyOrder, type Node, resolveTargets } from './targets.ts';

/**
 * Adds the stops of `machines`, dependents before what they depend on, independent ones side by side.
 * Returns the id of each machine's stop.
 */
export function addStops(
  plan: PlanBuilder,
  machines: readonly Node[],
  causeOf: (name: string) => string | undefined,
): ReadonlyMap<string, number> {
  const stops = new Map<string, number>();
  for (const { name } of inDependencyOrder(machines).toReversed()) {
    const cause = causeOf(name);
    if (cause === undefined) continue;
    const dependents = machines.filter((other) => other.dependsOn.some(({ machine }) => machine === name));
    stops.set(
      name,
      plan.add(
        { do: 'machine.stop', machine: name },
        cause,
        dependents.map((other) => stops.get(other.name)),
      ),
    );
  }
  return stops;
}

/** Whether processes of the machine may be there. */
export function mayRun(observed: Observed | undefined): boolean {
  return observed?.state === 'running' || observed?.state === 'broken';
}

/** `halt` and `destroy`: from the state alone, because the Tsfile may have changed or be gone. */
export function takeDown(
  command: 'halt' | 'destroy',
  wanted: Project | undefined,
  observation: Observation,
  targets: readonly string[],
): Plan {
  const plan = new PlanBuilder();
  const { state } = observation;
  const specs = Object.values(state?.machines ?? {}).map(({ spec }) => spec);
  const names = new Set(specs.map(({ name }) => name));
  const known = [...specs, ...(wanted?.machines ?? []).filter(({ name }) => !names.has(name))];
  const chosen = new Set(targets.length === 0 ? names : resolveTargets(targets, known));
  if (state === undefined) return plan.plan();
  const machines = specs.filter(({ name }) => chosen.has(name));

  const stops = addStops(plan, machines, (name) => {
    const observed = observation.machines[name];
    if (mayRun(observed)) return command;
    if (command === 'halt' && state.machines[name]?.suspended !== undefined) return 'suspended';
    // Stopping clears up after a machine that died; destroying does so by itself. What has completed stays completed.
    if (command === 'destroy' || observed?.state !== 'stopped' || !observed.unexpectedly) return undefined;
    const spec = machines.find((machine) => machine.name === name);
    return spec !== undefined && isCompleted(spec, observed) ? undefined : whyStopped(observed);
  });
  const last = [...stops.values()];
  if (command === 'destroy') {
    for (const { name } of inDependencyOrder(machines).toReversed()) {
      last.push(plan.add({ do: 'machine.destroy', machine: name }, 'destroy', [stops.get(name)]));
    }
  }

  // Volumes outlive machines that are named, be it all of them.
  if (command === 'destroy' && targets.length === 0) {
    for (const [volume, { keep }] of Object.entries(state.volumes ?? {}))
      plan.add({ do: keep ? 'volume.keep' : 'volume.remove', volume }, keep ? '`keep: true`' : 'destroy', last);
  }
  const everything = specs.length === machines.length;
  if (command === 'destroy' && everything) {
    const removals = Object.keys(state.networks).map((network) =>
      plan.add({ do: 'network.remove', network }, 'destroy', last),
    );
    last.push(...removals);
  }
  // Nothing may be left running once the last machine is gone: no holder, no dnsmasq, no uplink.
  const othersRun = specs.some(({ name }) => !chosen.has(name) && mayRun(observation.machines[name]));
  if (state.sandbox !== undefined && !othersRun) {
    plan.add({ do: 'sandbox.remove' }, command === 'destroy' && everything ? 'destroy' : 'last machine', last);
  }
  return plan.plan();
}
