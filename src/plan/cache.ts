import { createHash } from 'node:crypto';
import { isolationOf, type Machine, type Project } from '../model/project.ts';
import type { DueStep } from './provisioning.ts';

/** What a plan knows of the provision cache. */
export interface CacheView {
  /** Digests of the boxes and images of machines, by the machines' names. Of one that is missing nothing is cached. */
  readonly digests: Readonly<Record<string, string>>;
  /** Keys of the layers that are there. */
  readonly layers: ReadonlySet<string>;
  /** No layer is used, and those of the steps that run are made anew. */
  readonly anew: boolean;
}

type ProjectName = Pick<Project, 'name' | 'dir'>;

/** What a step makes of a machine, by the key that this has in the store. */
export interface StepLayer {
  readonly step: string;
  readonly key: string;
}

/**
 * The layers of a machine's first steps, up to the first step that may not be cached. Pure. Each key covers the one before it;
 * the first covers all of the machine that decides what a step makes. Limits do not, nor do ports and addresses. A shared
 * folder counts by its path, not by what is in it. Projects share no layers: what a step finds in the network of one is up to that
 * one, and nobody else's machine is to be made from it.
 */
export function layersOf(machine: Machine, { name, dir }: ProjectName, digest: string): readonly StepLayer[] {
  // A virtual machine's data disks are not in a layer, and its steps may have been at them.
  if (machine.cache !== true || (machine.kind === 'vm' && machine.disks.length > 0)) return [];
  const { kind, hostname, env, entrypoint, command, shares, volumes, disks } = machine;
  const { seccomp, ...isolation } = isolationOf(machine);
  const filter = typeof seccomp === 'string' ? seccomp : seccomp.digest;
  const mounted = { shares, volumes, disks: disks.map(({ name, mount }) => ({ name, mount })) };
  let key = sha256({
    version: 1,
    kind,
    digest,
    project: { name, dir },
    hostname,
    env,
    entrypoint,
    command,
    isolation,
    filter,
    mounted,
  });
  const layers: StepLayer[] = [];
  for (const { name: step, run, uncached, fingerprint } of machine.provision) {
    if (run === 'never') continue;
    if (run === 'always' || uncached === true) break;
    key = sha256({ parent: key, fingerprint });
    layers.push({ step, key });
  }
  return layers;
}

/** The deepest layer that a new machine can be made from, with the steps that are in it; undefined: none is there. */
export function cachedSteps(
  machine: Machine,
  project: ProjectName,
  view: CacheView | undefined,
): { readonly layer: string; readonly steps: readonly string[] } | undefined {
  if (view === undefined || view.anew) return undefined;
  const layers = stepLayers(machine, project, view);
  const last = layers.findLastIndex(({ key }) => view.layers.has(key));
  const layer = layers[last];
  return layer === undefined
    ? undefined
    : { layer: layer.key, steps: layers.slice(0, last + 1).map(({ step }) => step) };
}

/** The steps of a new machine: those that its layer has, and the others, with the layers that they make. */
export function withLayers(
  due: readonly DueStep[],
  cached: readonly string[],
  machine: Machine,
  project: ProjectName,
  view: CacheView | undefined,
): readonly DueStep[] {
  if (machine.cache !== true || view?.digests[machine.name] === undefined) return due;
  const keys = new Map(stepLayers(machine, project, view).map(({ step, key }) => [step, key]));
  return [
    ...cached.map((name): DueStep => ({ name, cause: 'cached', cached: true })),
    ...due
      .filter(({ name }) => !cached.includes(name))
      .map((step): DueStep => {
        const layer = keys.get(step.name);
        if (layer === undefined) return { ...step, cause: `${step.cause}, not cached` };
        return { ...step, layer, ...(view.anew ? { anew: true } : {}) };
      }),
  ];
}

function stepLayers(machine: Machine, project: ProjectName, view: CacheView): readonly StepLayer[] {
  const digest = view.digests[machine.name];
  return digest === undefined ? [] : layersOf(machine, project, digest);
}

/** Of plain JSON; the order of keys does not count. */
const sha256 = (value: unknown): string =>
  createHash('sha256')
    .update(JSON.stringify(sorted(value)))
    .digest('hex');

function sorted(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(sorted);
  const entries = Object.entries(value).map(([key, item]) => [key, sorted(item)] as const);
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
}
