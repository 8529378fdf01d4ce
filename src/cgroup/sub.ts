import { posix } from 'node:path';
import { TsvError } from '../model/errors.ts';
import { type CgroupFiles, kernelFiles } from './files.ts';
import type { Cgroup, CgroupMember } from './place.ts';

/**
 * What `exec --cgroup` names: a cgroup below the container's own, as a path for all hierarchies, or, in v1, as
 * `controller[,controller…]:path` for some of them; the others stay as they are. Paths begin at the container's cgroup, with
 * or without a slash, and an empty one is no wish. The cgroup has to be there: nothing is made.
 * @throws TSV_USAGE for what is no such wish, TSV_CGROUP for a controller or a cgroup that is not there, or lies outside
 */
export function subCgroup(cgroup: Cgroup, wanted: readonly string[], files: CgroupFiles = kernelFiles): Cgroup {
  const wishes = wanted.filter((text) => text !== '').map(readWish);
  const folders = new Map<CgroupMember, string>();
  for (const { text, controllers, path } of wishes) {
    if (controllers === undefined && wishes.length > 1)
      throw usage(text, 'a path alone is for all hierarchies, so it cannot be one of several');
    for (const member of controllers?.map((name) => memberOf(cgroup, name, text)) ?? cgroup.members) {
      const folder = below(member.folder, path, text);
      const before = folders.get(member);
      if (before !== undefined && before !== folder) throw usage(text, `${member.name} is to be in ${before} already`);
      if (!files.exists(folder)) throw refused(text, `${folder} is not there`);
      folders.set(member, folder);
    }
  }
  return {
    ...cgroup,
    members: cgroup.members.map((member) => ({ ...member, folder: folders.get(member) ?? member.folder })),
  };
}

interface Wish {
  readonly text: string;
  readonly controllers?: readonly string[];
  readonly path: string;
}

function readWish(text: string): Wish {
  const [first = '', path, ...more] = text.split(':');
  if (more.length > 0) throw usage(text, 'it has more than one colon');
  return path === undefined ? { text, path: first } : { text, controllers: first.split(','), path };
}

function memberOf(cgroup: Cgroup, controller: string, text: string): CgroupMember {
  const v1 = cgroup.members.filter(({ version }) => version === 1);
  if (v1.length === 0) throw refused(text, 'cgroup v2 has one hierarchy: a path alone names a cgroup there');
  const found = v1.find(({ name, controllers }) => name === controller || controllers.includes(controller));
  if (found !== undefined) return found;
  throw refused(text, `there is no controller '${controller}', only ${v1.map(({ name }) => name).join(', ')}`);
}

function below(folder: string, path: string, text: string): string {
  const found = posix.join(folder, path).replace(/\/$/, '');
  if (found === folder || found.startsWith(`${folder}/`)) return found;
  throw refused(text, "it lies outside of the container's cgroup");
}

const usage = (text: string, why: string): TsvError =>
  new TsvError('TSV_USAGE', `--cgroup ${JSON.stringify(text)}: ${why}`, {
    hint: '--cgroup PATH, or once or more --cgroup CONTROLLER[,CONTROLLER…]:PATH',
  });

const refused = (text: string, why: string): TsvError =>
  new TsvError('TSV_CGROUP', `--cgroup ${JSON.stringify(text)}: ${why}`);
