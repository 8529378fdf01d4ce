import { dirname, join, relative, sep } from 'node:path';
import { TsvError } from '../model/errors.ts';
import { type CgroupFiles, errnoOf, readIfThere, unlessErrno } from './files.ts';
import type { CgroupMember } from './place.ts';

/**
 * Makes the member's folder and those between it and its base, each able to take processes. The folders that were not
 * there are appended to `made`. v2 controllers come down to it, from the top of the hierarchy, where they can, and only
 * those that are `needed` where that is given; why one did not is left to {@link whyNotOffered}.
 */
export function makeFolders(
  member: CgroupMember,
  needed: readonly string[] | undefined,
  made: string[],
  files: CgroupFiles,
): void {
  // Another tsv may remove a folder that it finds empty at the very moment.
  for (let attempt = 1; !makeOnce(member, needed, made, files); attempt++) {
    if (attempt === 10) throw new TsvError('TSV_CGROUP', `${member.folder} is removed again and again`);
  }
  const type = member.version === 2 ? readIfThere(files, join(member.folder, 'cgroup.type')) : undefined;
  if (type === 'domain invalid' || type === 'threaded') {
    throw new TsvError('TSV_CGROUP', `linux.cgroupsPath: ${member.folder} lies in a threaded cgroup`, {
      details: [`cgroup.type is '${type}': it can hold threads, but no container`],
    });
  }
}

function makeOnce(
  member: CgroupMember,
  needed: readonly string[] | undefined,
  made: string[],
  files: CgroupFiles,
): boolean {
  // A slice of systemd has the controllers that its units use, which may be none.
  if (member.version === 2) for (const folder of foldersAbove(member)) handDown(folder, needed, files);
  let above = member.base;
  for (const name of relative(member.base, member.folder).split(sep)) {
    const folder = join(above, name);
    const done = unlessErrno(above === member.base ? [] : ['ENOENT', 'ENODEV'], () => {
      if (member.version === 2) handDown(above, needed, files);
      if (files.makeFolder(folder)) made.push(folder);
      if (member.version === 1 && member.controllers.includes('cpuset')) fillCpuset(folder, above, files);
    });
    if (!done) return false;
    above = folder;
  }
  return true;
}

/** From the top of the hierarchy down to the folder above the base. */
function foldersAbove({ mountPoint, base }: CgroupMember): string[] {
  const names = relative(mountPoint, base).split(sep).filter(Boolean);
  return names.map((_, i) => join(mountPoint, ...names.slice(0, i)));
}

/**
 * In v2 each cgroup hands its controllers down by name (cgroups(7), cgroup.subtree_control). Not being able to is no
 * error here: what is missing shows in the container's own cgroup.controllers.
 */
function handDown(folder: string, needed: readonly string[] | undefined, files: CgroupFiles): void {
  if (!files.writable(folder)) return;
  const enabled = words(readIfThere(files, join(folder, 'cgroup.subtree_control')));
  const wanted = words(readIfThere(files, join(folder, 'cgroup.controllers'))).filter(
    (name) => !enabled.includes(name) && needed?.includes(name) !== false,
  );
  if (wanted.length === 0) return;
  if (tryHandDown(folder, wanted, files)) return;
  // All or nothing is how the kernel takes a line: one by one, those that can be enabled are.
  for (const name of wanted) tryHandDown(folder, [name], files);
}

/** false: the kernel refuses it. */
function tryHandDown(folder: string, controllers: readonly string[], files: CgroupFiles): boolean {
  try {
    files.write(join(folder, 'cgroup.subtree_control'), controllers.map((name) => `+${name}`).join(' '));
    return true;
  } catch (error) {
    if (errnoOf(error) === undefined || !files.exists(folder)) throw error;
    return false;
  }
}

/** Why a controller that the hierarchy has is not offered to the member: the first cgroup above that keeps it. */
export function whyNotOffered(member: CgroupMember, controller: string, files: CgroupFiles): string {
  for (let at = dirname(member.folder); at.startsWith(member.mountPoint); at = dirname(at)) {
    const offered = words(readIfThere(files, join(at, 'cgroup.controllers')));
    if (!offered.includes(controller)) continue;
    // The root alone may hold processes and hand down, and has no type.
    const isBusy = files.exists(join(at, 'cgroup.type')) && readIfThere(files, join(at, 'cgroup.procs'));
    if (isBusy) return `${at} holds processes itself and cannot hand the controller '${controller}' down`;
    return `${at} does not hand the controller '${controller}' down`;
  }
  return `this host has no controller '${controller}' for containers`;
}

const words = (text = ''): string[] => text.split(' ').filter((word) => word !== '');

/** In v1 a new cgroup has no processors and no memory, and takes no process before it has both. */
function fillCpuset(folder: string, above: string, files: CgroupFiles): void {
  for (const name of ['cpuset.cpus', 'cpuset.mems']) {
    if (readIfThere(files, join(folder, name)) !== '') continue;
    const inherited = readIfThere(files, join(above, name));
    if (inherited) files.write(join(folder, name), inherited);
  }
}

/** What a user must own to divide its cgroup further (cgroups(7), "Cgroup delegation"); v1 is never handed over. */
export function handOver(folder: string, uid: number, files: CgroupFiles): void {
  const list = readIfThere(files, '/sys/kernel/cgroup/delegate')?.split('\n') ?? [
    'cgroup.procs',
    'cgroup.subtree_control',
    'cgroup.threads',
  ];
  files.chown(folder, uid);
  for (const name of list) {
    const file = join(folder, name);
    if (name !== '' && !name.includes('/') && files.exists(file)) files.chown(file, uid);
  }
}
