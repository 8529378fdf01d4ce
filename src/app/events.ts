import type { MachineEvent } from '../model/machine-event.ts';
import { resolveTargets } from '../plan/targets.ts';
import { EventReader } from '../state/events.ts';
import { projectPaths, stateDirName } from '../state/paths.ts';
import { readState } from '../state/store.ts';
import { findProjectDir, load, type Place } from './place.ts';

export interface EventOptions {
  /** Nanoseconds since 1970. */
  readonly sinceNs?: bigint;
  readonly untilNs?: bigint;
}

export interface Events {
  /** Machines that exist or had events when it was opened. */
  readonly machines: readonly string[];
  /** All that are there by now and were not given yet, oldest first. */
  next(): readonly MachineEvent[];
  /** Waits until something changes. false: `untilNs` is over. */
  more(): Promise<boolean>;
  close(): void;
}

/** @throws TSV_UNKNOWN_MACHINE */
export async function openEvents(place: Place, names: readonly string[], options: EventOptions): Promise<Events> {
  const projectDir = findProjectDir(place);
  const { sinceNs, untilNs } = options;
  const reader = EventReader.open(projectDir);
  let first = reader.next();
  const specs = Object.values(readState(projectDir)?.machines ?? {}).map(({ spec }) => spec);
  const machines = [...new Set([...specs.map(({ name }) => name), ...first.map(({ machine }) => machine)])];
  const chosen = names.length === 0 ? undefined : new Set(await chooseMachines(place, names, machines, specs));
  const isWanted = ({ time, machine }: MachineEvent): boolean => {
    const ms = Date.parse(time);
    if (Number.isNaN(ms)) return false; // edited by hand
    const timeNs = BigInt(ms) * 1_000_000n;
    if (sinceNs !== undefined && timeNs < sinceNs) return false;
    if (untilNs !== undefined && timeNs > untilNs) return false;
    return chosen?.has(machine) ?? true;
  };
  let watching: Promise<{ wait(): Promise<boolean>; close(): void }> | undefined;
  return {
    machines: chosen === undefined ? machines : machines.filter((name) => chosen.has(name)),
    next() {
      const events = [...first, ...reader.next()];
      first = [];
      return events.filter(isWanted);
    },
    async more() {
      watching ??= startWatching(projectDir, untilNs);
      return (await watching).wait();
    },
    close() {
      reader.close();
      void watching?.then(({ close }) => close());
    },
  };
}

/** Of machines that exist, that had events, or that the Tsfile has. */
async function chooseMachines(
  place: Place,
  names: readonly string[],
  machines: readonly string[],
  specs: readonly Parameters<typeof resolveTargets>[1][number][],
): Promise<readonly string[]> {
  const gone = machines
    .filter((name) => !specs.some((spec) => spec.name === name))
    .map((name) => ({ name, group: name, dependsOn: [] }));
  const known = [...specs, ...gone];
  if (names.every((wanted) => known.some(({ name, group }) => name === wanted || group === wanted)))
    return resolveTargets(names, known);
  const planned = (await load(place)).machines.filter(({ name }) => !known.some((node) => node.name === name));
  return resolveTargets(names, [...known, ...planned]);
}

async function startWatching(projectDir: string, untilNs: bigint | undefined) {
  const { Watch } = await import('./watch.ts');
  const { stateDir } = projectPaths(projectDir);
  const watch = new Watch();
  const leftMs = () => (untilNs === undefined ? 1 : Math.max(0, Number(untilNs / 1_000_000n) - Date.now()));
  const timer = untilNs === undefined ? undefined : setTimeout(() => watch.ring(), Math.min(leftMs() + 1, 2 ** 31 - 1));
  watch.folder(projectDir, (name) => {
    if (name === stateDirName) watch.folder(stateDir); // it may have been made anew
  });
  watch.folder(stateDir);
  watch.ring(); // for what came before the watch
  return {
    async wait() {
      if (leftMs() === 0) return false;
      await watch.wait();
      return true;
    },
    close() {
      clearTimeout(timer);
      watch.close();
    },
  };
}
