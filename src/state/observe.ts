import type { Ending, MachineState, Observation, Observed, ProcessRef, State } from '../model/state.ts';
import { readEnding } from '../sys/kept-files.ts';
import { isAlive } from '../sys/process.ts';
import { projectPaths } from './paths.ts';
import { readSnapshots } from './snapshots.ts';

/** What {@link observe} asks reality. */
export interface Checks {
  isAlive(ref: ProcessRef | undefined): boolean;
  /** How a machine that is gone has ended, as far as its keeper has noted it. */
  ending(machine: string): Ending | undefined;
}

const realChecks = (state: State | undefined): Checks => ({
  isAlive,
  ending: (machine) =>
    state === undefined ? undefined : readEnding(projectPaths(state.projectDir).machineDir(machine)),
});

/** Compares the state with the processes that are there. Reads /proc and nothing else, so any command can afford it. */
export function observe(state: State | undefined, checks: Checks = realChecks(state)): Observation {
  if (state === undefined) return { state, machines: {}, sandboxAlive: false, servicesAlive: false };
  const sandboxAlive = checks.isAlive(state.sandbox?.holder);
  return {
    state,
    machines: Object.fromEntries(
      Object.entries(state.machines).map(([name, entry]) => [
        name,
        observeMachine(entry, sandboxAlive, state.sandbox?.holder, checks),
      ]),
    ),
    sandboxAlive,
    servicesAlive: sandboxAlive && servicesAlive(state, checks),
    // Few want to know them, and each is a file.
    get snapshots() {
      return readSnapshots(state.projectDir);
    },
  };
}

function observeMachine(
  entry: MachineState,
  sandboxAlive: boolean,
  holder: ProcessRef | undefined,
  checks: Checks,
): Observed {
  if (entry.process === undefined) return { state: 'stopped', unexpectedly: false };
  if (!checks.isAlive(entry.process)) {
    // Without its agent the record is of the time before.
    const ended = entry.ended ?? checks.ending(entry.spec.name);
    return { state: 'stopped', unexpectedly: true, ...(ended === undefined ? {} : { ended }) };
  }
  const moved = entry.holder !== undefined && entry.holder.pid !== holder?.pid;
  if (!sandboxAlive || moved) return { state: 'broken', reasons: ['its sandbox is gone'] };
  return { state: 'running', process: entry.process };
}

/** dnsmasq serves every network; the uplink process serves `nat` networks and is none when root has a veth instead. */
function servicesAlive(state: State, checks: Checks): boolean {
  const networks = Object.values(state.networks);
  // A sandbox with neither machines nor networks is one whose making was cut short.
  const unfinished = networks.length === 0 && Object.keys(state.machines).length === 0;
  const needsDns = networks.length > 0 || unfinished;
  const needsUplink = state.sandbox?.rooted === false && networks.some((network) => network.spec.mode === 'nat');
  return (
    (state.sandbox?.dnsmasq === undefined ? !needsDns : checks.isAlive(state.sandbox.dnsmasq)) &&
    (state.sandbox?.uplink === undefined ? !needsUplink : checks.isAlive(state.sandbox.uplink))
  );
}
