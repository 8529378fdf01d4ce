import type { Socket } from 'node:net';
import { AgentLeaving, agentGone, callAgent } from '../agent/client.ts';
import { boxKey } from '../agent/machines.ts';
import type { ProjectCommand, RunResult } from '../agent/protocol.ts';
import { TsvError } from '../model/errors.ts';
import type { Emit } from '../model/events.ts';
import { isDigest } from '../model/image.ts';
import type { Plan } from '../model/plan.ts';
import type { Project } from '../model/project.ts';
import type { State } from '../model/state.ts';
import { laps } from '../model/timings.ts';
import { portHolder, portTaken } from '../net/forwards.ts';
import { withLive } from '../plan/changes.ts';
import { reconcile } from '../plan/reconcile.ts';
import { readHolder } from '../state/lock.ts';
import { observe } from '../state/observe.ts';
import { storeDir } from '../state/paths.ts';
import { readState } from '../state/store.ts';
import { isAlive } from '../sys/process.ts';
import { projectAgent } from './agent.ts';
import { requireHost, requirePossible } from './host.ts';
import { loadLocked, rememberLock, requireLocked } from './lock.ts';
import { knownMachines } from './machine.ts';
import { findProjectDir, load, noteOf, type Place } from './place.ts';
import type { EnsuredSources, Source } from './sources.ts';
import { requireVolumes } from './volumes.ts';

export interface RunOptions {
  readonly place: Place;
  readonly targets: readonly string[];
  /** As typed, for others who have to wait. */
  readonly commandLine: string;
  readonly parallel: number;
  readonly emit: Emit;
  readonly signal: AbortSignal;
  /** `timing` events are wanted. */
  readonly timings?: boolean;
}

/** Reports what this process does, from its start. */
function ownLaps({ timings, emit }: Pick<RunOptions, 'timings' | 'emit'>): (what: string) => void {
  const lap = laps(timings === true ? emit : undefined, 0);
  lap('start of tsv');
  return lap;
}

/** `tsv up` and `tsv reload`. `locked`: fails where Tsfile.lock would have to change. */
export async function bringUp(
  options: RunOptions & {
    readonly command: 'up' | 'reload';
    readonly provision: boolean | 'force';
    readonly locked: boolean;
    /** false: returns when the machines have been started; only what others depend on is waited for. */
    readonly wait: boolean;
    /** For all waits together. */
    readonly timeoutMs?: number;
    /** New machines are made without the provision cache, which is made anew. Absent: false. */
    readonly noCache?: boolean;
  },
): Promise<RunResult> {
  const { place, command, targets, provision, wait, timeoutMs, noCache = false } = options;
  const lap = ownLaps(options);
  const found = await loadLocked(place);
  const { project } = found;
  requirePossible(project);
  if (options.locked) await requireLocked(found);
  const state = readState(project.dir);
  // Planned here only to learn what will be needed; the agent plans again with what it sees then.
  const plan = reconcile({
    command,
    wanted: project,
    observation: observe(state),
    targets,
    options: { provision, wait },
  });
  lap('Tsfile and plan');
  if (plan.nodes.length === 0 && !takesOver(project, state)) {
    // Machines run on without their agent; their forwards do not.
    if (Object.values(state?.machines ?? {}).some((record) => isAlive(record.process)))
      (await projectAgent(options.place, project.dir, project.name)).destroy();
    lap('agent');
    if (!options.locked) await rememberLock(found, new Map(), place, options.emit);
    return { plan };
  }
  const namesOf = (what: 'machine.create' | 'machine.start') =>
    plan.nodes.flatMap(({ action }) => (action.do === what ? [action.machine] : []));
  const missing = namesOf('machine.create');
  requirePorts(project, plan, project.dir);
  requireHost(project.machines.filter(({ name }) => missing.includes(name)).map(({ kind }) => kind));
  const sources = sourcesFor(project, { create: missing, start: namesOf('machine.start') }, state);
  const { digests: boxes, images } = await takeSources(project, sources, options);
  if (!options.locked) await rememberLock(found, images, place, options.emit);
  lap('boxes and images');
  const work = {
    command,
    project,
    targets,
    provision,
    wait,
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    ...(noCache ? { noCache } : {}),
    boxes,
    note: noteOf(project),
  };
  return viaAgent(options, project.dir, project.name, work, lap);
}

/** Whether machines have something to take over from the Tsfile though there is nothing to be done. */
const takesOver = (project: Project, state: State | undefined): boolean =>
  project.machines.some((machine) => {
    const spec = state?.machines[machine.name]?.spec;
    return spec !== undefined && withLive(spec, machine) !== spec;
  });

/** `tsv provision`. `noCache`: new machines run these steps, too, instead of being made from what they have made before. */
export async function provision(
  options: RunOptions & { readonly only?: string; readonly noCache?: boolean },
): Promise<RunResult> {
  const lap = ownLaps(options);
  const project = await load(options.place);
  const command = {
    command: 'provision',
    project,
    targets: options.targets,
    ...(options.only === undefined ? {} : { only: options.only }),
    ...(options.noCache === true ? { noCache: true } : {}),
  } as const;
  reconcile({
    command: 'provision',
    wanted: project,
    observation: observe(readState(project.dir)),
    targets: options.targets,
    options: options.only === undefined ? {} : { only: options.only },
  });
  lap('Tsfile and plan');
  return viaAgent(options, project.dir, project.name, command, lap);
}

/** `tsv halt` and `tsv destroy`: from the state, whatever became of the Tsfile. */
export async function takeDown(
  options: RunOptions & { readonly command: 'halt' | 'destroy'; readonly force: boolean },
): Promise<RunResult> {
  const { command, targets, force } = options;
  const lap = ownLaps(options);
  const dir = findProjectDir(options.place);
  const state = readState(dir);
  // Names of machines that were never made are known from the Tsfile alone, if it can be read.
  const wanted = targets.every((name) => state?.machines[name] !== undefined) ? undefined : await load(options.place);
  const plan = reconcile({ command, wanted, observation: observe(state), targets });
  lap('state and plan');
  if (plan.nodes.length === 0 && !(command === 'destroy' && targets.length === 0 && state !== undefined))
    return { plan };
  const work = { command, project: undefined, targets, force };
  return viaAgent(options, dir, state?.projectName ?? 'project', work, lap);
}

/** `tsv restart`: from the state, whatever became of the Tsfile. */
export async function restart(options: RunOptions & { readonly stopTimeoutMs?: number }): Promise<RunResult> {
  const { projectDir, state, chosen } = await knownMachines(options.place, options.targets);
  requireHost(chosen.flatMap((name) => state.machines[name]?.spec.kind ?? []));
  return viaAgent(options, projectDir, state.projectName, {
    command: 'restart',
    targets: options.targets,
    ...(options.stopTimeoutMs === undefined ? {} : { stopTimeoutMs: options.stopTimeoutMs }),
  });
}

/** `tsv pause` and `tsv unpause`; without names: all that run. @throws TSV_NOT_RUNNING when a named one does not */
export async function pauseMachines(
  options: RunOptions & { readonly command: 'pause' | 'unpause' },
): Promise<RunResult> {
  const { command, place, targets } = options;
  const { projectDir, state, chosen } = await knownMachines(place, targets);
  const observation = observe(state);
  const down = chosen.filter((name) => observation.machines[name]?.state !== 'running');
  if (down.length > 0 && targets.length > 0)
    throw new TsvError('TSV_NOT_RUNNING', `${down.join(', ')}: not running`, { hint: `tsv up ${down.join(' ')}` });
  const plan = reconcile({ command, observation, targets: chosen });
  if (plan.nodes.length === 0) return { plan };
  return viaAgent(options, projectDir, state.projectName, { command, targets: chosen });
}

/**
 * `tsv suspend` and `tsv resume`: from the state, whatever became of the Tsfile.
 * @throws TSV_UNSUPPORTED for a container that is named, TSV_NOT_RUNNING, TSV_USAGE for what is not suspended
 */
export async function suspendMachines(
  options: RunOptions & { readonly command: 'suspend' | 'resume' },
): Promise<RunResult> {
  const { command, place, targets, emit } = options;
  const { projectDir, state } = await knownMachines(place, targets);
  const plan = reconcile({ command, observation: observe(state), targets });
  if (plan.nodes.length === 0) return { plan };
  const halted = plan.nodes.flatMap(({ action }) =>
    action.do === 'machine.suspend' && state.machines[action.machine]?.spec.kind === 'container'
      ? [action.machine]
      : [],
  );
  if (halted.length > 0)
    emit({ type: 'notice', text: `containers cannot be suspended, and are halted: ${halted.join(', ')}` });
  return viaAgent(options, projectDir, state.projectName, { command, targets });
}

/** `tsv volume rm`. @throws TSV_USAGE, TSV_IN_USE */
export async function removeVolumes(options: RunOptions): Promise<RunResult> {
  const { place, targets } = options;
  const dir = findProjectDir(place);
  await requireVolumes(place, targets);
  const state = readState(dir);
  const command = { command: 'volume rm', targets } as const;
  reconcile({ ...command, observation: observe(state) });
  return viaAgent(options, dir, state?.projectName ?? 'project', command);
}

/** @param lap told when there is a connection to the agent */
export function viaAgent(
  options: RunOptions,
  dir: string,
  name: string,
  command: ProjectCommand,
  lap: (what: string) => void = () => {},
): Promise<RunResult> {
  const { parallel, timings } = options;
  const call = { do: 'run', command, parallel, ...(timings === undefined ? {} : { timings }) } as const;
  return withAgent(options.place, dir, name, (socket) => {
    lap('agent');
    return callAgent<RunResult>(socket, call, {
      command: options.commandLine,
      emit: options.emit,
      signal: options.signal,
    });
  });
}

/** Agents that may leave one after the other while we ask: each has seen the last machine end. */
const mostAgents = 5;

/** Asks the project's agent, and the next one where it is leaving and did nothing of it. */
export async function withAgent<T>(
  place: Place,
  dir: string,
  name: string,
  ask: (socket: Socket) => Promise<T>,
): Promise<T> {
  for (let tries = 1; ; tries++) {
    const socket = await projectAgent(place, dir, name);
    try {
      return await ask(socket);
    } catch (error) {
      if (!(error instanceof AgentLeaving)) throw error; // else it has stopped listening: the next one is another
      if (tries === mostAgents) throw agentGone();
    }
  }
}

/** Ports are looked at here, before anything is made, and where all of this user's programs can be seen. @throws TSV_PORT_TAKEN */
function requirePorts(project: Project, plan: Plan, dir: string): void {
  const starting = new Set(
    plan.nodes.flatMap(({ action }) =>
      action.do === 'machine.start' || action.do === 'machine.resume' ? [action.machine] : [],
    ),
  );
  for (const machine of project.machines.filter(({ name }) => starting.has(name))) {
    for (const forward of machine.forwards) {
      const holder = portHolder(forward.hostPort, forward.hostAddress, readHolder(dir)?.pid);
      if (holder !== undefined) throw portTaken(machine.name, forward, holder);
    }
  }
}

/**
 * What has to be in the store: for machines that are made, and for those that start, whose image somebody may have removed
 * meanwhile. They start from what they were made from.
 */
function sourcesFor(
  project: Project,
  names: { readonly create: readonly string[]; readonly start: readonly string[] },
  state: State | undefined,
): readonly Source[] {
  const wanted = new Map<string, Source>();
  for (const { name, box, kind, image } of project.machines) {
    const made = state?.machines[name]?.boxDigest;
    if (names.create.includes(name))
      wanted.set(boxKey(box, kind), image === undefined ? { box, kind } : { image: box, ...image });
    else if (names.start.includes(name) && image !== undefined && isDigest(made) && !wanted.has(boxKey(box, kind)))
      wanted.set(boxKey(box, kind), { image: box, digest: made });
  }
  return [...wanted.values()];
}

/**
 * Boxes are built and images pulled here, as the user, before the agent works. The code for it loads only when a machine is
 * to be made, or one of an image is to start.
 */
export async function takeSources(
  project: Project,
  wanted: readonly Source[],
  options: Pick<RunOptions, 'place' | 'emit' | 'signal'>,
): Promise<EnsuredSources> {
  if (wanted.length === 0) return { digests: {}, images: new Map() };
  const [{ ensureSources }, { rememberProject }] = await Promise.all([
    import('./sources.ts'),
    import('../store/projects.ts'),
  ]);
  rememberProject(storeDir(options.place.env), project.dir);
  return ensureSources(options.place, wanted, options.emit, options.signal);
}
