import { join } from 'node:path';
import { type CgroupFiles, kernelFiles } from './files.ts';

/** One mounted hierarchy of cgroups. */
export interface Hierarchy {
  readonly version: 1 | 2;
  /** As in /proc/PID/cgroup: `memory`, `cpu,cpuacct`, `name=systemd`; empty for the unified one. */
  readonly name: string;
  /** v1: those mounted together, or none of a named hierarchy. v2: those that are offered at its base. */
  readonly controllers: readonly string[];
  readonly mountPoint: string;
  /** Folder of this process's cgroup; undefined where the mount does not show it. */
  readonly own?: string;
  /**
   * The highest folder in which this process may make cgroups: root's is the mount point, an ordinary user's is what was
   * delegated to it. Undefined: none.
   */
  readonly base?: string;
}

export interface CgroupLayout {
  /** hybrid: both, whether or not the unified hierarchy has controllers. */
  readonly mode: 'v1' | 'hybrid' | 'v2' | 'none';
  /** In the order of their mounts. */
  readonly hierarchies: readonly Hierarchy[];
}

/**
 * Finds the hierarchies by what is mounted (proc_pid_mountinfo(5)) and where this process is in them (cgroups(7),
 * /proc/PID/cgroup). A mount that another one covers, and a second mount of a hierarchy, do not count.
 */
export function detectCgroups(files: Pick<CgroupFiles, 'read' | 'exists' | 'writable'> = kernelFiles): CgroupLayout {
  const own = ownCgroups(files.read('/proc/self/cgroup'));
  const hierarchies = new Map<string, Hierarchy>();
  for (const mount of visibleMounts(files.read('/proc/self/mountinfo'))) {
    const name = hierarchyName(mount, own);
    if (name === undefined || hierarchies.has(name)) continue;
    hierarchies.set(name, describe(mount, name, own.get(name), files));
  }
  const versions = new Set([...hierarchies.values()].map(({ version }) => version));
  const mode = versions.size === 2 ? 'hybrid' : versions.has(1) ? 'v1' : versions.has(2) ? 'v2' : 'none';
  return { mode, hierarchies: [...hierarchies.values()] };
}

/** Name of each hierarchy and the path of this process in it. A path may hold colons. */
function ownCgroups(text: string): Map<string, string> {
  return new Map(
    text
      .split('\n')
      .map((line) => /^\d+:([^:]*):(.*)$/.exec(line))
      .filter((match) => match !== null)
      .map(([, name = '', path = '/']) => [name, path]),
  );
}

interface Mount {
  readonly id: string;
  readonly parent: string;
  /** The part of its file system that the mount shows. */
  readonly root: string;
  readonly mountPoint: string;
  readonly type: string;
  readonly options: readonly string[];
}

function visibleMounts(text: string): Mount[] {
  const mounts = text.split('\n').flatMap((line): Mount[] => {
    const [before = '', after] = line.split(' - ');
    if (after === undefined) return [];
    const [id = '', parent = '', , root = '', mountPoint = ''] = before.split(' ');
    const [type = '', , options = ''] = after.split(' ');
    return [
      { id, parent, root: unescaped(root), mountPoint: unescaped(mountPoint), type, options: options.split(',') },
    ];
  });
  const byId = new Map(mounts.map((mount) => [mount.id, mount]));
  /** Walking along the path, the kernel steps into the first mount that it meets at each one. */
  const isVisible = (mount: Mount): boolean => {
    const covers = ({ mountPoint }: Mount, than: number) =>
      mountPoint.length < than && isBelow(mount.mountPoint, mountPoint);
    const childOf = (parent: string) => mounts.filter((other) => other.parent === parent);
    if (childOf(mount.id).some((other) => other.mountPoint === mount.mountPoint)) return false;
    for (let at: Mount | undefined = mount; at !== undefined; at = byId.get(at.parent)) {
      const { id, parent, mountPoint } = at;
      if (id === parent) break;
      if (childOf(parent).some((other) => covers(other, mountPoint.length))) return false;
    }
    return true;
  };
  return mounts.filter(({ type }) => type === 'cgroup' || type === 'cgroup2').filter(isVisible);
}

/** Space, tab, line end and backslash are written as `\040` and so on. */
const unescaped = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, code: string) => String.fromCharCode(Number.parseInt(code, 8)));

const isBelow = (path: string, folder: string): boolean =>
  folder === '/' || path === folder || path.startsWith(`${folder}/`);

/** A v1 mount's options hold its controllers between others such as `rw` and `xattr`: what the kernel also lists for us counts. */
function hierarchyName(mount: Mount, own: ReadonlyMap<string, string>): string | undefined {
  if (mount.type === 'cgroup2') return '';
  const has = (name: string) => name.split(',').every((part) => mount.options.includes(part));
  return [...own.keys()].find((name) => name !== '' && has(name));
}

function describe(
  mount: Mount,
  name: string,
  ownPath: string | undefined,
  files: Pick<CgroupFiles, 'read' | 'exists' | 'writable'>,
): Hierarchy {
  const { mountPoint } = mount;
  const version = mount.type === 'cgroup2' ? 2 : 1;
  const shown = ownPath !== undefined && isBelow(ownPath, mount.root) && !ownPath.startsWith('/..');
  const beyondRoot = mount.root === '/' ? 0 : mount.root.length;
  const inside = shown ? join(mountPoint, ownPath.slice(beyondRoot)).replace(/\/$/, '') : undefined;
  const own = inside !== undefined && files.exists(inside) ? inside : undefined;
  // In v2 a cgroup that holds processes hands nothing down: beside our own is better than below it.
  const parent = own === undefined || own === mountPoint || version === 1 ? [] : [join(own, '..')];
  const base = [mountPoint, ...parent, ...(own === undefined ? [] : [own])].find(files.writable);
  const offered = version === 1 ? name : files.read(join(base ?? own ?? mountPoint, 'cgroup.controllers')).trim();
  return {
    version,
    name,
    controllers: offered.split(/[ ,]/).filter((controller) => controller !== '' && !controller.startsWith('name=')),
    mountPoint,
    ...(own === undefined ? {} : { own }),
    ...(base === undefined ? {} : { base }),
  };
}
