import { TsvError } from '../model/errors.ts';
import { resolveTargets } from '../plan/targets.ts';
import { projectPaths, stateFiles } from '../state/paths.ts';
import { readState } from '../state/store.ts';
import { consoleNames, RotatedLog } from '../sys/rotated-log.ts';
import { LogSource, MergedLogs, type Piece, type Wanted } from './log-source.ts';
import { findProjectDir, type Place } from './place.ts';

export interface LogOptions extends Wanted {
  /** The times of lines are asked for. */
  readonly timestamps: boolean;
}

/** What chosen machines printed, merged by time. */
export interface Logs {
  /** In the order of the state; a piece's `source` is an index into it. */
  readonly machines: readonly string[];
  /** Machines of which some output has no time although that is needed. */
  readonly untimed: readonly string[];
  /** Undefined: that is all there is by now. */
  next(): (Piece & { readonly source: number }) | undefined;
  /** Waits until there is more. false: none of the machines runs any more, or `untilNs` is over. */
  more(): Promise<boolean>;
  close(): void;
}

/** @throws TSV_NOT_RUNNING, TSV_UNKNOWN_MACHINE */
export function openLogs(place: Place, names: readonly string[], options: LogOptions): Logs {
  const projectDir = findProjectDir(place);
  const specs = Object.values(readState(projectDir)?.machines ?? {}).map(({ spec }) => spec);
  if (specs.length === 0) throw new TsvError('TSV_NOT_RUNNING', 'no machine exists yet', { hint: 'tsv up' });
  const machines = names.length === 0 ? specs.map(({ name }) => name) : resolveTargets(names, specs);
  const timed = options.timestamps || options.sinceNs !== undefined || options.untilNs !== undefined;
  const raw = machines.length === 1 && !timed;
  const { machineDir } = projectPaths(projectDir);
  // All are opened before any is read: what is there is what was there at this moment.
  const logs = machines.map((name) => RotatedLog.open(machineDir(name), consoleNames));
  const sources = logs.map((log) => new LogSource(log, options, { raw }));
  const merged = new MergedLogs(sources);
  const untimed = raw ? [] : machines.filter((_, index) => sources[index]?.lacksTimes === true);
  let following: Promise<Following> | undefined;
  return {
    machines,
    untimed,
    next: () => merged.next(),
    async more() {
      following ??= startFollowing(projectDir, machines, options.untilNs);
      const { wait } = await following;
      for (;;) {
        const over = await wait();
        for (const source of sources) source.refresh();
        if (sources.some((source) => source.peek() !== undefined)) return true;
        if (over) return false;
      }
    },
    close() {
      for (const source of sources) source.close();
      void following?.then(({ close }) => close());
    },
  };
}

interface Following {
  /** Resolves when something may have been printed, at first at once; true: it was the last. */
  wait(): Promise<boolean>;
  close(): void;
}

async function startFollowing(
  projectDir: string,
  machines: readonly string[],
  untilNs: bigint | undefined,
): Promise<Following> {
  const [{ Watch }, { LogEnd }] = await Promise.all([import('./watch.ts'), import('./log-end.ts')]);
  const { stateDir, machinesDir, machineDir } = projectPaths(projectDir);
  const watch = new Watch();
  const end = new LogEnd(projectDir, machines);
  let isStale = true;
  const watchMachine = (name: string) => watch.folder(machineDir(name));
  const watchMachines = () => {
    watch.folder(machinesDir, (name) => {
      if (machines.includes(name)) watchMachine(name); // it was made anew
    });
    for (const name of machines) watchMachine(name);
  };
  watch.folder(stateDir, (name) => {
    if (name === stateFiles.machines) watchMachines();
    if (!noise.includes(name)) isStale = true;
  });
  watchMachines();
  const timer = untilNs === undefined ? undefined : setTimeout(() => watch.ring(), msUntil(untilNs));
  watch.ring();
  let isOver = false;
  return {
    async wait() {
      if (isOver) return true;
      await watch.wait();
      if (isStale) {
        isStale = false;
        const { over, processes } = end.look();
        isOver = over;
        for (const process of processes)
          watch.process(process, () => {
            isStale = true;
          });
      }
      isOver ||= untilNs !== undefined && msUntil(untilNs) === 0;
      return isOver;
    },
    close() {
      clearTimeout(timer);
      watch.close();
    },
  };
}

/** Files of the state folder that say nothing about whether a machine runs. */
const noise: readonly string[] = [stateFiles.journal, stateFiles.agentLog];

const msUntil = (timeNs: bigint): number =>
  Math.min(Math.max(0, Number(timeNs / 1_000_000n) - Date.now()), 2 ** 31 - 1);
