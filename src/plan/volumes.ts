import { TsvError } from '../model/errors.ts';
import type { Plan } from '../model/plan.ts';
import type { Observation, VolumeState } from '../model/state.ts';
import type { Situation } from './bring-up.ts';
import { PlanBuilder } from './builder.ts';

/** Those of the machines that are chosen, by name; and those that the Tsfile no longer has, which stay until `destroy`. */
export function addVolumes(
  plan: PlanBuilder,
  { wanted, observation, machines, options }: Situation,
): ReadonlyMap<string, number> {
  const known = observation.state?.volumes ?? {};
  const used = new Set(machines.flatMap(({ volumes = [] }) => volumes.map(({ name }) => name)));
  const declared = wanted.volumes ?? [];
  const ids = new Map<string, number>();
  for (const { name, keep } of declared) {
    const cause = used.has(name) ? whyVolume(known[name], keep) : undefined;
    if (cause !== undefined) ids.set(name, plan.add({ do: 'volume.ensure', volume: name }, cause));
  }
  if (options.targets.length > 0) return ids;
  for (const [volume, { keep, left }] of Object.entries(known)) {
    if (left !== true && !declared.some(({ name }) => name === volume))
      plan.add(
        { do: 'volume.leave', volume },
        `no longer in the Tsfile; ${keep ? 'tsv volume rm' : 'tsv destroy'} removes it`,
      );
  }
  return ids;
}

function whyVolume(before: VolumeState | undefined, keep: boolean): string | undefined {
  if (before === undefined) return 'new';
  if (before.left === true) return 'in the Tsfile again';
  return before.keep === keep ? undefined : '`keep` changed';
}

/** `tsv volume rm`. Pure. @throws TSV_IN_USE where a machine has one of them, running or not */
export function removeVolumes({ state }: Observation, names: readonly string[]): Plan {
  const uses = Object.values(state?.machines ?? {}).flatMap(({ spec }) =>
    (spec.volumes ?? []).filter(({ name }) => names.includes(name)).map(({ name }) => ({ name, machine: spec.name })),
  );
  if (uses.length > 0) {
    const machines = [...new Set(uses.map(({ machine }) => machine))];
    throw new TsvError('TSV_IN_USE', 'machines have what was to be removed', {
      details: uses.map(({ name, machine }) => `volume ${name}: ${machine}`),
      hint: `tsv destroy ${machines.join(' ')}   # first`,
    });
  }
  const plan = new PlanBuilder();
  for (const volume of new Set(names)) plan.add({ do: 'volume.remove', volume }, 'volume rm');
  return plan.plan();
}
