import type { Socket } from 'node:net';
import { openAgent } from '../agent/client.ts';
import { TsvError } from '../model/errors.ts';
import type { MachineState, ProcessRef, State } from '../model/state.ts';
import { existingRunDir, runPaths } from '../state/paths.ts';
import { readState } from '../state/store.ts';
import { isAlive } from '../sys/process.ts';
import { findProjectDir, load, type Place } from './place.ts';

export interface KnownMachine {
  readonly projectDir: string;
  readonly state: State;
  readonly record: MachineState;
}

/** A machine that exists. @throws TSV_UNKNOWN_MACHINE with the nearest name, TSV_NOT_RUNNING when it is in the Tsfile only */
export async function knownMachine(place: Place, name: string): Promise<KnownMachine> {
  const projectDir = findProjectDir(place);
  const state = readState(projectDir);
  const record = state?.machines[name];
  if (state !== undefined && record !== undefined) return { projectDir, state, record };
  const [{ notOne, resolveTargets }, project] = await Promise.all([import('../plan/targets.ts'), load(place)]);
  const names = resolveTargets([name], project.machines);
  if (names.length > 1 || names[0] !== name) throw notOne(name, names);
  throw new TsvError('TSV_NOT_RUNNING', `${name} does not exist yet`, { hint: `tsv up ${name}` });
}

/** Machines that exist, by names of machines or groups; none: all. @throws TSV_UNKNOWN_MACHINE, TSV_NOT_RUNNING */
export async function knownMachines(
  place: Place,
  names: readonly string[],
): Promise<{ readonly projectDir: string; readonly state: State; readonly chosen: readonly string[] }> {
  const projectDir = findProjectDir(place);
  const state = readState(projectDir);
  const specs = Object.values(state?.machines ?? {}).map(({ spec }) => spec);
  const missing = names.filter((wanted) => !specs.some(({ name, group }) => name === wanted || group === wanted));
  const { resolveTargets } = await import('../plan/targets.ts');
  if (missing.length > 0) {
    resolveTargets(missing, (await load(place)).machines);
    throw new TsvError('TSV_NOT_RUNNING', `${missing.join(', ')}: not created yet`, {
      hint: `tsv up ${missing.join(' ')}`,
    });
  }
  if (state === undefined || specs.length === 0)
    throw new TsvError('TSV_NOT_RUNNING', 'no machine exists yet', { hint: 'tsv up' });
  return {
    projectDir,
    state,
    chosen: names.length === 0 ? specs.map(({ name }) => name) : resolveTargets(names, specs),
  };
}

/** @throws TSV_UNKNOWN_MACHINE, TSV_NOT_RUNNING */
export async function runningMachine(place: Place, name: string): Promise<KnownMachine & { process: ProcessRef }> {
  const known = await knownMachine(place, name);
  const { process } = known.record;
  if (process === undefined || !isAlive(process)) {
    if (known.record.suspended?.memory === true)
      throw new TsvError('TSV_NOT_RUNNING', `${name} is suspended`, { hint: `tsv resume ${name}` });
    throw new TsvError('TSV_NOT_RUNNING', `${name} is not running`, { hint: `tsv up ${name}` });
  }
  return { ...known, process };
}

/** A connection to the agent of a machine that runs. */
export async function machineAgent(place: Place, name: string): Promise<Socket> {
  const { projectDir, state } = await runningMachine(place, name);
  const runDir = existingRunDir(projectDir, place.env);
  const running = runDir === undefined ? undefined : await openAgent(runPaths(runDir).agentSocket);
  if (running !== undefined) return running;
  const { projectAgent } = await import('./agent.ts');
  return projectAgent(place, projectDir, state.projectName);
}
