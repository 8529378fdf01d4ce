import type { Socket } from 'node:net';
import { AgentLeaving, callAgent, openAgent } from '../agent/client.ts';
import type { WaitResult } from '../agent/protocol.ts';
import type { Emit } from '../model/events.ts';
import type { State } from '../model/state.ts';
import { type Condition, isMet, stateWords, type Waited } from '../model/waiting.ts';
import { resolveTargets } from '../plan/targets.ts';
import { observe } from '../state/observe.ts';
import { existingRunDir, runPaths } from '../state/paths.ts';
import { readState } from '../state/store.ts';
import { projectAgent } from './agent.ts';
import { findProjectDir, load, type Place } from './place.ts';

export interface WaitRequest {
  readonly place: Place;
  /** Machines or replica groups; none: all. */
  readonly names: readonly string[];
  readonly condition: Condition;
  readonly timeoutMs?: number;
  /** As typed, for others who have to wait. */
  readonly commandLine: string;
  readonly emit: Emit;
  readonly signal: AbortSignal;
}

/**
 * `tsv wait`: what the machines are in the end, one entry each. The agent waits; where it is not needed because nothing
 * changes by itself any more, none is started.
 * @throws TSV_UNKNOWN_MACHINE
 */
export async function waitForMachines(request: WaitRequest): Promise<readonly Waited[]> {
  const { place, condition } = request;
  const projectDir = findProjectDir(place);
  const state = readState(projectDir);
  const machines = await chosen(request, state);
  const observation = observe(state);
  const now = machines.map((machine): Waited => {
    const look = {
      record: state?.machines[machine],
      observed: observation.machines[machine] ?? { state: 'absent' as const },
    };
    return { machine, met: isMet(condition, look), is: stateWords(look) };
  });
  // Without an agent nobody starts a machine, and nobody looks how it is.
  const running = machines.some((machine) => observation.machines[machine]?.state === 'running');
  const agent = existingRunDir(projectDir, place.env);
  const socket = agent === undefined ? undefined : await openAgent(runPaths(agent).agentSocket);
  if (socket === undefined && (!running || (condition === 'running' && now.every(({ met }) => met)))) return now;
  const another = () => projectAgent(place, projectDir, state?.projectName ?? 'project');
  return askAgent(request, machines, socket ?? (await another()), another);
}

async function chosen({ place, names }: WaitRequest, state: State | undefined): Promise<readonly string[]> {
  const made = Object.values(state?.machines ?? {}).map(({ spec }) => spec);
  const isMade = (target: string) => made.some(({ name, group }) => name === target || group === target);
  if (names.length > 0 && names.every(isMade)) return resolveTargets(names, made);
  const wanted = (await load(place)).machines;
  const all = [...wanted, ...made.filter(({ name }) => !wanted.some((machine) => machine.name === name))];
  if (names.length > 0) return resolveTargets(names, all);
  return all.flatMap(({ name, oneOff }) => (oneOff === true ? [] : [name]));
}

async function askAgent(
  { condition, timeoutMs, commandLine, emit, signal }: WaitRequest,
  machines: readonly string[],
  first: Socket,
  another: () => Promise<Socket>,
): Promise<readonly Waited[]> {
  const call = {
    do: 'wait',
    machines,
    until: condition,
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
  } as const;
  for (let socket = first; ; socket = await another()) {
    try {
      return (await callAgent<WaitResult>(socket, call, { command: commandLine, emit, signal })).machines;
    } catch (error) {
      if (!(error instanceof AgentLeaving)) throw error;
    }
  }
}
