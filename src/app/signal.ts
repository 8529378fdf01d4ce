import { callAgent } from '../agent/client.ts';
import { TsvError } from '../model/errors.ts';
import { isAlive } from '../sys/process.ts';
import { projectAgent } from './agent.ts';
import { knownMachines } from './machine.ts';
import type { Place } from './place.ts';

/**
 * `tsv kill`: sends a signal, by its number, to machines or groups, and returns the machines. KILL returns when they are gone.
 * @throws TSV_UNKNOWN_MACHINE, TSV_NOT_RUNNING, TSV_UNSUPPORTED
 */
export async function signalMachines(
  place: Place,
  names: readonly string[],
  signal: number,
  commandLine: string,
): Promise<readonly string[]> {
  const { projectDir, state, chosen } = await knownMachines(place, names);
  // Nobody is asked when nothing runs: an agent would be started for it.
  if (!chosen.some((name) => isAlive(state.machines[name]?.process)))
    throw new TsvError('TSV_NOT_RUNNING', `${chosen.join(', ')}: not running`, { hint: `tsv up ${chosen.join(' ')}` });
  const agent = await projectAgent(place, projectDir, state.projectName);
  await callAgent(agent, { do: 'signal', machines: chosen, signal }, { command: commandLine, emit: () => {} });
  return chosen;
}
