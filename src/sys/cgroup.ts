import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

/** Limits of one machine. */
export interface Limits {
  readonly memoryBytes: number;
  readonly cpuQuotaUs: number;
  readonly cpuPeriodUs: number;
  readonly pids: number;
}

export type Controller = 'memory' | 'cpu' | 'pids';
const controllers: readonly Controller[] = ['memory', 'cpu', 'pids'];

/** Where each controller can be used on this host: its hierarchy (v1) or the unified one (v2). */
export type CgroupLayout = Readonly<Partial<Record<Controller, { readonly version: 1 | 2; readonly base: string }>>>;

export interface Cgroups {
  /** Folders made, one per hierarchy. */
  readonly folders: readonly string[];
  /** Limits that this host does not let us set. */
  readonly missing: readonly Controller[];
}

/**
 * Finds the controllers by what is mounted (proc(5), mountinfo) and, in the unified hierarchy, offered where we are
 * (cgroups(7)): hosts have v1, v2 or both. Only places where this process may make folders count: for an ordinary user
 * that is a cgroup which was delegated to it.
 */
export function detectCgroups(
  read: (file: string) => string = (file) => readFileSync(file, 'utf8'),
  writable: (folder: string) => boolean = isWritable,
): CgroupLayout {
  const layout: Partial<Record<Controller, { version: 1 | 2; base: string }>> = {};
  const own = new Map(
    read('/proc/self/cgroup')
      .trim()
      .split('\n')
      .map((line) => line.split(':'))
      .map(([, names = '', path = '/']) => [names, path]),
  );
  const root = process.geteuid?.() === 0;
  for (const line of read('/proc/self/mountinfo').trim().split('\n')) {
    const [before = '', after = ''] = line.split(' - ');
    const [, , , , mountPoint = ''] = before.split(' ');
    const [type, , options = ''] = after.split(' ');
    if (type === 'cgroup2') {
      const ownFolder = join(mountPoint, own.get('') ?? '/');
      // Root uses the top; a user its own, delegated folder.
      const base = writable(mountPoint) && root ? mountPoint : ownFolder;
      if (!writable(base)) continue;
      const offered = read(join(base, 'cgroup.controllers')).trim().split(' ');
      for (const controller of controllers) if (offered.includes(controller)) layout[controller] = { version: 2, base };
    } else if (type === 'cgroup' && writable(mountPoint)) {
      for (const controller of controllers) {
        if (options.split(',').includes(controller)) layout[controller] ??= { version: 1, base: mountPoint };
      }
    }
  }
  return layout;
}

function isWritable(folder: string): boolean {
  try {
    accessSync(folder, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** Makes the folders `path` (relative, e.g. `tsv/ID/web-1`) and sets the limits. Already there: sets them again. */
export function createCgroups(layout: CgroupLayout, path: string, limits: Limits): Cgroups {
  const folders = new Set<string>();
  const missing: Controller[] = [];
  for (const controller of controllers) {
    const place = layout[controller];
    if (place === undefined) {
      missing.push(controller);
      continue;
    }
    const folder = join(place.base, path);
    if (place.version === 2 && !enableController(place.base, path, controller)) {
      missing.push(controller);
      continue;
    }
    mkdirSync(folder, { recursive: true });
    for (const [file, value] of settings(controller, place.version, limits)) {
      if (existsSync(join(folder, file))) writeFileSync(join(folder, file), value);
    }
    folders.add(folder);
  }
  return { folders: [...folders], missing };
}

/** In v2 each parent hands its controllers down by name (cgroups(7), "cgroup.subtree_control"). false: it may not. */
function enableController(base: string, path: string, controller: Controller): boolean {
  const parts = path.split('/');
  try {
    for (let i = 0; i < parts.length; i++) {
      const folder = join(base, ...parts.slice(0, i));
      mkdirSync(folder, { recursive: true });
      writeFileSync(join(folder, 'cgroup.subtree_control'), `+${controller}`);
    }
    return true;
  } catch (error) {
    // EBUSY: a cgroup that holds processes itself hands nothing down. The others: it was not delegated to us.
    if (['EBUSY', 'EACCES', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '')) return false;
    throw error;
  }
}

/** Files and values, in the order in which they can be written. */
export function settings(
  controller: Controller,
  version: 1 | 2,
  limits: Limits,
): readonly (readonly [file: string, value: string])[] {
  switch (controller) {
    case 'memory':
      return version === 2
        ? [
            ['memory.max', `${limits.memoryBytes}`],
            ['memory.swap.max', '0'],
          ]
        : [['memory.limit_in_bytes', `${limits.memoryBytes}`]];
    case 'cpu':
      return version === 2
        ? [['cpu.max', `${limits.cpuQuotaUs} ${limits.cpuPeriodUs}`]]
        : [
            ['cpu.cfs_period_us', `${limits.cpuPeriodUs}`],
            ['cpu.cfs_quota_us', `${limits.cpuQuotaUs}`],
          ];
    case 'pids':
      return [['pids.max', `${limits.pids}`]];
  }
}

/** Folders of a machine that exist, in every hierarchy. */
export function findCgroups(layout: CgroupLayout, path: string): string[] {
  const folders = new Set(Object.values(layout).map((place) => join(place.base, path)));
  return [...folders].filter((folder) => existsSync(folder));
}

/** Removes the folders of `path` and its parents up to and including its first part, where nothing else is left in them. */
export function removeCgroups(layout: CgroupLayout, path: string): void {
  const parts = path.split('/');
  for (const base of new Set(Object.values(layout).map((place) => place.base))) {
    for (let i = parts.length; i > 0; i--) {
      const folder = join(base, ...parts.slice(0, i));
      if (!existsSync(folder)) continue;
      if (i < parts.length && readdirSync(folder, { withFileTypes: true }).some((entry) => entry.isDirectory())) break;
      try {
        rmdirSync(folder);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EBUSY' || i === parts.length) throw error;
        break; // another machine was just made there
      }
    }
  }
}
