import { join } from 'node:path';
import { type CgroupFiles, kernelFiles } from './files.ts';
import type { CgroupLayout, Hierarchy } from './layout.ts';
import type { Cgroup, CgroupMember } from './place.ts';

/**
 * Where a running container's cgroups are, by /proc/PID/cgroup of one of its processes (cgroups(7)): whoever made them may
 * have begun at another place than this process would. Hierarchies in which it has none of its own are left out.
 * @param own how the paths of its cgroups end: `tsv/PROJECT/NAME`
 */
export function findCgroup(
  layout: CgroupLayout,
  text: string,
  own: string,
  files: Pick<CgroupFiles, 'exists'> = kernelFiles,
): Cgroup {
  const paths = new Map(
    text
      .split('\n')
      .map((line) => /^\d+:([^:]*):(.*)$/.exec(line))
      .filter((match) => match !== null)
      .map(([, name = '', path = '/']) => [name, path]),
  );
  return {
    explicit: false,
    members: layout.hierarchies.flatMap((hierarchy): CgroupMember[] => {
      const folder = folderOf(hierarchy, ownPart(paths.get(hierarchy.name), own), files);
      if (folder === undefined) return [];
      const { version, name, controllers, mountPoint } = hierarchy;
      return [{ version, name, controllers, mountPoint, base: mountPoint, folder }];
    }),
  };
}

/** The container may have made cgroups below its own. */
function ownPart(path: string | undefined, own: string): string | undefined {
  const at = path?.indexOf(`/${own}`) ?? -1;
  if (path === undefined || at < 0) return undefined;
  const rest = path.slice(at + own.length + 1);
  return rest === '' || rest.startsWith('/') ? path.slice(0, at + own.length + 1) : undefined;
}

/** A mount may show only a part of its hierarchy, which begins at one of the folders on the way. */
function folderOf(
  { mountPoint }: Hierarchy,
  path: string | undefined,
  files: Pick<CgroupFiles, 'exists'>,
): string | undefined {
  if (path === undefined) return undefined;
  const words = path.split('/').filter(Boolean);
  return words
    .slice(0, -2) // the last three are the container's own
    .map((_, index) => join(mountPoint, ...words.slice(index)))
    .find((folder) => files.exists(folder));
}
