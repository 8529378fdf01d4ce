import type { Machine, Project } from '../model/project.ts';
import { shortReference } from '../model/reference.ts';
import type { LockEntry, LockFile } from './format.ts';

/** The project with the digests of the images that the lock file has. Pure. */
export function applyLock(project: Project, lock: LockFile | undefined): Project {
  if (lock === undefined || project.machines.every(({ image }) => image === undefined)) return project;
  return { ...project, machines: project.machines.map((machine) => applyEntry(machine, lock)) };
}

function applyEntry(machine: Machine, { images }: LockFile): Machine {
  const digest = Object.hasOwn(images, machine.box) ? images[machine.box]?.digest : undefined;
  return machine.image === undefined || digest === undefined ? machine : { ...machine, image: { digest } };
}

/** What a project's machines are made from, each once, in the order of the file. */
export function sourcesOf(machines: readonly Machine[]): { boxes: readonly string[]; images: readonly string[] } {
  const names = (isImage: boolean) => [
    ...new Set(machines.filter(({ image }) => (image !== undefined) === isImage).map(({ box }) => box)),
  ];
  return { boxes: names(false), images: names(true) };
}

/**
 * The lock file for these machines: entries of `resolved`, else those it had; what no machine uses any more is dropped.
 * What could not be resolved yet has none, and what is the same as before is as old as it was.
 */
export function nextLock(machines: readonly Machine[], before: LockFile | undefined, resolved: LockFile): LockFile {
  const { boxes, images } = sourcesOf(machines);
  const pick = (section: keyof LockFile, names: readonly string[]): Record<string, LockEntry> =>
    Object.fromEntries(
      names.flatMap((name) => {
        const [old, found] = [own(before?.[section] ?? {}, name), own(resolved[section], name)];
        const entry = found === undefined || found.digest === old?.digest ? old : found;
        return entry === undefined ? [] : [[name, entry] as const];
      }),
    );
  return { boxes: pick('boxes', boxes), images: pick('images', images) };
}

const own = (entries: Readonly<Record<string, LockEntry>>, name: string): LockEntry | undefined =>
  Object.hasOwn(entries, name) ? entries[name] : undefined;

export interface LockChange {
  readonly kind: 'box' | 'image';
  /** As people know it: `nginx:1.27`. */
  readonly name: string;
  readonly before?: LockEntry;
  readonly after?: LockEntry;
}

/** What differs in digests, and what is new or gone. Everything else in an entry says how it came to be. */
export function lockChanges(before: LockFile | undefined, after: LockFile): readonly LockChange[] {
  return (['boxes', 'images'] as const).flatMap((section) => {
    const [old, wanted] = [before?.[section] ?? {}, after[section]];
    const names = [...new Set([...Object.keys(old), ...Object.keys(wanted)])].sort();
    return names.flatMap((name): LockChange[] => {
      const [was, is] = [own(old, name), own(wanted, name)];
      if (was?.digest === is?.digest) return [];
      return [
        {
          kind: section === 'boxes' ? 'box' : 'image',
          name: section === 'boxes' ? name : shownReference(name),
          ...(was === undefined ? {} : { before: was }),
          ...(is === undefined ? {} : { after: is }),
        },
      ];
    });
  });
}

/** Names of a lock file may be anything that somebody wrote there. */
function shownReference(name: string): string {
  try {
    return shortReference(name);
  } catch {
    return name;
  }
}

/** One line for people: `nginx:1.27: sha256:0123456789ab… -> sha256:ba9876543210…`. */
export function describeChange({ kind, name, before, after }: LockChange): string {
  const what = kind === 'box' ? `box ${name}` : name;
  const shown = ({ digest, version }: LockEntry) =>
    `${version === undefined ? '' : `${version} `}${digest.replace(/^(sha\d+:[0-9a-f]{12}).*/, '$1…')}`;
  if (before === undefined) return `${what}: ${after === undefined ? '' : shown(after)}`;
  return after === undefined ? `${what}: no longer used` : `${what}: ${shown(before)} -> ${shown(after)}`;
}
