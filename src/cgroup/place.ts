import { dirname, join, posix } from 'node:path';
import { TsvError } from '../model/errors.ts';
import type { CgroupLayout, Hierarchy } from './layout.ts';

/** A container's folder in one hierarchy. */
export interface CgroupMember {
  readonly version: 1 | 2;
  /** As {@link Hierarchy.name}. */
  readonly name: string;
  readonly controllers: readonly string[];
  readonly mountPoint: string;
  /** What lies between here and `folder` is made by us when it is not there. */
  readonly base: string;
  readonly folder: string;
}

/** A container's cgroup: one folder in each hierarchy. Plain data, to be kept in the container's state. */
export interface Cgroup {
  readonly members: readonly CgroupMember[];
  /** The user named a path: not being allowed to make it is an error, and no reason to do without. */
  readonly explicit: boolean;
  /** Of the host; see {@link CgroupLayout}. */
  readonly mode?: CgroupLayout['mode'];
  /** Controllers that the host has, but this process may make no cgroup with. */
  readonly closed?: readonly string[];
}

/**
 * Where the cgroup of an OCI container lies (config-linux.md, "Cgroups Path"): an absolute path below what each mount
 * shows, a relative one (or else the id) below this process's own cgroup; in v2 beside it, because a cgroup that holds
 * processes hands no controllers down. No `..` leads out of either.
 * @throws TSV_CGROUP when the path names no cgroup of the container's own, or systemd is to make it
 */
export function placeCgroup(
  layout: CgroupLayout,
  wanted: { readonly cgroupsPath?: string; readonly id: string; readonly systemd?: boolean },
): Cgroup {
  const { cgroupsPath = '', id } = wanted;
  if (wanted.systemd === true) {
    throw new TsvError('TSV_CGROUP', 'linux.cgroupsPath: systemd is not asked for cgroups here', {
      details: [`${cgroupsPath === '' ? id : `'${cgroupsPath}'`} would be a unit; tsv makes its cgroups itself`],
      hint: 'leave out --systemd-cgroup (Docker: native.cgroupdriver=cgroupfs; Podman: --cgroup-manager=cgroupfs)',
    });
  }
  const path = cgroupsPath === '' ? id : cgroupsPath;
  const absolute = path.startsWith('/');
  const inside = cleanPath(path, cgroupsPath === '' ? 'the id' : 'linux.cgroupsPath');
  const members = layout.hierarchies.map((hierarchy) =>
    member(hierarchy, absolute ? hierarchy.mountPoint : besideOwn(hierarchy), inside),
  );
  return { members, explicit: cgroupsPath !== '', mode: layout.mode };
}

/**
 * Where a cgroup of our own naming lies, such as `tsv/PROJECT/NAME`: below the base of each hierarchy in which this
 * process may make one. `controllers`: only hierarchies with one of these, and the unified one.
 */
export function placeBelowBase(layout: CgroupLayout, path: string, controllers?: readonly string[]): Cgroup {
  const inside = cleanPath(path, 'the cgroup');
  const isWanted = (hierarchy: Hierarchy) =>
    controllers === undefined || hierarchy.version === 2 || hierarchy.controllers.some((c) => controllers.includes(c));
  const wanted = layout.hierarchies.filter(isWanted);
  const closed = wanted.filter(({ base }) => base === undefined).flatMap((hierarchy) => hierarchy.controllers);
  const members = wanted.flatMap((hierarchy) =>
    hierarchy.base === undefined ? [] : [member(hierarchy, hierarchy.base, inside)],
  );
  return { members, explicit: false, closed };
}

/**
 * With the hierarchies in which the container has no cgroup of its own, because this process may make none there: its
 * processes stay in this process's. To look at, not to change.
 */
export function withInherited(cgroup: Cgroup, layout: CgroupLayout): Cgroup {
  const own = new Set(cgroup.members.map(({ name }) => name));
  const inherited = layout.hierarchies.flatMap((hierarchy) =>
    own.has(hierarchy.name) || hierarchy.own === undefined
      ? []
      : [{ ...member(hierarchy, hierarchy.own, ''), folder: hierarchy.own }],
  );
  return { ...cgroup, members: [...cgroup.members, ...inherited] };
}

function member({ version, name, controllers, mountPoint }: Hierarchy, base: string, inside: string): CgroupMember {
  return { version, name, controllers, mountPoint, base, folder: join(base, inside) };
}

function besideOwn({ version, mountPoint, own = mountPoint }: Hierarchy): string {
  return version === 1 || own === mountPoint ? own : dirname(own);
}

/** `a/b` for `/a/./x/../b`, `../a/b` and so on. */
function cleanPath(path: string, what: string): string {
  const clean = posix.normalize(`/${path}`).replace(/^\/+|\/+$/g, '');
  if (clean !== '' && !/[\0\n]/.test(clean)) return clean;
  throw new TsvError('TSV_CGROUP', `${what}: '${path.replaceAll('\0', '\\0')}' is no name for a cgroup`, {
    details: [
      clean === ''
        ? 'a container needs a cgroup of its own: this one is shared with processes of the host'
        : 'the kernel allows no line end in the name of a cgroup',
    ],
  });
}

/** The member in whose hierarchy a v1 controller is, or undefined. */
export function v1Member(cgroup: Cgroup, controller: string): CgroupMember | undefined {
  return cgroup.members.find(({ version, controllers }) => version === 1 && controllers.includes(controller));
}

/** The member in the unified hierarchy, or undefined. */
export function v2Member(cgroup: Cgroup): CgroupMember | undefined {
  return cgroup.members.find(({ version }) => version === 2);
}
