import { TsvError } from '../model/errors.ts';
import type { Plan } from '../model/plan.ts';
import type { Project } from '../model/project.ts';
import type { Observation, State } from '../model/state.ts';
import { bringUp } from './bring-up.ts';
import { resolveTargets } from './targets.ts';

/** The project as the state has it; what is chosen waits only for what is chosen, too. */
export const asItIs = (state: State, chosen: ReadonlySet<string>): Project => ({
  name: state.projectName,
  dir: state.projectDir,
  file: '',
  digest: state.tsfileDigest,
  networks: Object.values(state.networks).map(({ spec }) => spec),
  machines: Object.values(state.machines).map(({ spec }) => ({
    ...spec,
    dependsOn: spec.dependsOn.filter(({ machine }) => chosen.has(machine)),
  })),
});

/**
 * `restart`: stops what runs and starts it again as the state has it, whatever the Tsfile says by now; what does not run is
 * started. Dependents stop before what they depend on and start after it; machines that are not chosen stay as they are.
 * @throws TSV_UNKNOWN_MACHINE, TSV_USAGE for what `tsv run` runs
 */
export function planRestart(observation: Observation, targets: readonly string[]): Plan {
  const { state } = observation;
  if (state === undefined) return { nodes: [] };
  const specs = Object.values(state.machines).map(({ spec }) => spec);
  const lasting = specs.filter(({ oneOff }) => oneOff !== true);
  const chosen = new Set(targets.length === 0 ? lasting.map(({ name }) => name) : resolveTargets(targets, specs));
  const oneOff = [...chosen].find((name) => !lasting.some((spec) => spec.name === name));
  if (oneOff !== undefined)
    throw new TsvError('TSV_USAGE', `${oneOff} is what tsv run runs: it ends, and does not start again`);
  if (chosen.size === 0) return { nodes: [] };
  const plan = bringUp(asItIs(state, chosen), observation, {
    targets: [...chosen],
    reload: true,
    provision: false,
    wait: true,
  });
  return {
    nodes: plan.nodes.map((node) => (node.cause === 'reload' ? { ...node, cause: 'restart' } : node)),
  };
}
