import { existsSync, lstatSync, realpathSync } from 'node:fs';
import { basename } from 'node:path';
import { toTsvError } from '../model/errors.ts';
import { readHolder } from '../state/lock.ts';
import { observe } from '../state/observe.ts';
import { projectPaths, storeDir } from '../state/paths.ts';
import { readState } from '../state/store.ts';
import { rememberedProjects } from '../store/remembered.ts';
import { allPids, readProcStart, startedAt } from '../sys/proc.ts';
import { variableOf } from '../sys/proc-text.ts';
import type { Place } from './place.ts';

/** A project of this user: it has a state, or processes that run. */
export interface ListedProject {
  readonly project: string;
  readonly dir: string;
  /** Machines that run, of those that exist. */
  readonly running: number;
  readonly machines: number;
  /** Of its agent, if one runs. */
  readonly agent?: number;
  /** ISO 8601: since when its sandbox runs; absent: it has none. */
  readonly since?: string;
  /** Why there is no more to tell: its folder or state is gone, or cannot be read. */
  readonly problem?: string;
  /** With a `problem`: the processes of the project that run, by which it was found. */
  readonly processes?: readonly number[];
}

/**
 * What is there now, by folder: found by the processes that run, and by the folders that the store knows. Nothing is taken
 * from memory: each folder's state is read and compared with /proc.
 */
export function listProjects(place: Place): readonly ListedProject[] {
  const found = projectProcesses();
  const dirs = new Set([...rememberedProjects(storeDir(place.env)), ...found.keys()]);
  return [...dirs].sort().flatMap((dir) => describe(dir, found.get(dir) ?? []));
}

interface ProjectProcess {
  readonly pid: number;
  readonly project: string;
}

/** Sandboxes and agents say in their environment whose they are. Only this user's processes are looked at. */
function projectProcesses(): ReadonlyMap<string, readonly ProjectProcess[]> {
  const uid = process.getuid?.();
  const found = new Map<string, ProjectProcess[]>();
  for (const pid of allPids()) {
    if (lstatSync(`/proc/${pid}`, { throwIfNoEntry: false })?.uid !== uid) continue;
    const environment = readProcStart(pid, 'environ');
    // Most processes have none, and the rest of this is for few.
    if (environment === undefined || !environment.includes('TSV_ID=tsv:')) continue;
    const project = variableOf(environment, 'TSV_ID')?.slice('tsv:'.length);
    const dir = variableOf(environment, 'TSV_DIR');
    if (project === undefined || dir === undefined) continue;
    const real = realPath(utf8(dir));
    found.set(real, [...(found.get(real) ?? []), { pid, project }]);
  }
  return found;
}

const utf8 = (latin1: string): string => Buffer.from(latin1, 'latin1').toString('utf8');
const realPath = (dir: string): string => (existsSync(dir) ? realpathSync(dir) : dir);

function describe(dir: string, processes: readonly ProjectProcess[]): ListedProject[] {
  const running = processes.map(({ pid }) => pid);
  const project = processes[0]?.project ?? basename(dir);
  const without = (problem: string): ListedProject[] => [
    { project, dir, running: 0, machines: 0, problem, ...(running.length === 0 ? {} : { processes: running }) },
  ];
  try {
    const state = readState(dir);
    if (state === undefined) {
      if (running.length === 0) return []; // remembered only
      if (existsSync(projectPaths(dir).stateDir)) return without('it has no state yet');
      return without(existsSync(dir) ? 'its state is gone' : 'its folder is gone');
    }
    const { machines, sandboxAlive } = observe(state);
    const observed = Object.values(machines);
    const agent = readHolder(dir)?.pid;
    const since = sandboxAlive ? state.sandbox?.holder.startTime : undefined;
    return [
      {
        project: state.projectName,
        dir,
        running: observed.filter((machine) => machine.state === 'running').length,
        machines: observed.length,
        ...(agent === undefined ? {} : { agent }),
        ...(since === undefined ? {} : { since: new Date(startedAt(Number(since))).toISOString() }),
      },
    ];
  } catch (error) {
    return without(toTsvError(error).message);
  }
}
