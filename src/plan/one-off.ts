import { TsvError } from '../model/errors.ts';
import type { Plan } from '../model/plan.ts';
import type { Project } from '../model/project.ts';
import type { Observation } from '../model/state.ts';
import { bringUp } from './bring-up.ts';

/**
 * `run`: what the named machine needs, and nothing of the others. Networks that are there stay as they are, whatever the Tsfile
 * says by now: who runs on them is not asked.
 */
export function planRun(wanted: Project, observation: Observation, name: string): Plan {
  const known = observation.state?.networks ?? {};
  const networks = wanted.networks.map((network) => known[network.name]?.spec ?? network);
  return bringUp(
    { ...wanted, networks, machines: wanted.machines.filter((machine) => machine.name === name) },
    observation,
    { targets: [name], reload: false, provision: false, wait: true },
  );
}

/** The wanted name, else the first of `run-1`, `run-2`, … that nobody has. @throws TSV_USAGE when somebody has it */
export function oneOffName(wanted: string | undefined, taken: ReadonlySet<string>): string {
  if (wanted !== undefined) {
    if (!taken.has(wanted)) return wanted;
    throw new TsvError('TSV_USAGE', `this project has a machine ${wanted} already`, {
      hint: 'give it another --name, or none: then one is chosen',
    });
  }
  for (let n = 1; ; n++) if (!taken.has(`run-${n}`)) return `run-${n}`;
}
