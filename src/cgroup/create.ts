import { join } from 'node:path';
import { TsvError } from '../model/errors.ts';
import type { OciResources } from '../oci/spec.ts';
import { applySettings, type MissingLimit, type OnMissing, throwMissing } from './apply.ts';
import { applyDevices, isPrivileged } from './apply-devices.ts';
import { type CgroupFiles, errnoOf, isForbidden, isGone, kernelFiles, readIfThere, unlessErrno } from './files.ts';
import { handOver, makeFolders, whyNotOffered } from './folders.ts';
import { isFrozen } from './freeze.ts';
import { type Cgroup, type CgroupMember, v1Member, v2Member } from './place.ts';
import { cgroupProcesses } from './processes.ts';
import { ignoredFields, settings, tcpLimitFile } from './settings.ts';

export interface CgroupOptions {
  /** A limit that cannot be set is an error (an OCI bundle), instead of an entry in `missing` (a Tsfile). */
  readonly strict: boolean;
  /** Host's uid that gets the cgroup of v2, to divide it further; see config-linux.md, "Cgroup ownership". */
  readonly ownerUid?: number;
}

export interface AppliedCgroup {
  readonly missing: readonly MissingLimit[];
  /** For the log, one line each. */
  readonly warnings: readonly string[];
}

export interface CreatedCgroup extends AppliedCgroup {
  /** With the members in which a folder could be made: the one to keep. */
  readonly cgroup: Cgroup;
  /** A process that writes `0` to each one's `cgroup.procs`, in this order, is in the container's cgroup. */
  readonly folders: readonly string[];
}

/**
 * Makes a container's cgroup and sets everything of `linux.resources`; where it is there already, that is set again.
 * On an error, nothing that was made stays.
 * @throws TSV_CGROUP naming the JSON path: a limit that cannot be set (strict), a cgroup that is frozen or holds this
 * very process, a `cgroupsPath` where this process may make nothing
 */
export function createCgroup(
  place: Cgroup,
  resources: OciResources,
  options: CgroupOptions,
  files: CgroupFiles = kernelFiles,
): CreatedCgroup {
  const made: string[] = [];
  try {
    const refused: string[] = [];
    // Beside v1, the unified hierarchy of a host is touched no more than is asked for.
    const isHybrid = place.members.some(({ version }) => version === 1);
    const needed = isHybrid ? neededOfV2(resources) : undefined;
    const members = place.members.filter((member) => {
      try {
        makeFolders(member, needed, made, files);
        return true;
      } catch (error) {
        if (error instanceof TsvError) throw error;
        if (!isForbidden(error) || (options.strict && place.explicit)) throw cannotMake(member, error);
        refused.push(member.folder);
        return false;
      }
    });
    const cgroup = { ...place, members };
    const warnings = checkFit(cgroup, made, files);
    const applied = apply(cgroup, resources, { ...options, refused, creating: true }, files);
    const unified = v2Member(cgroup);
    const { ownerUid } = options;
    // Who is not root has nothing to give away (EPERM), and owns what it has made.
    if (ownerUid !== undefined && unified !== undefined)
      unlessErrno(['EPERM'], () => handOver(unified.folder, ownerUid, files));
    return {
      cgroup,
      folders: joinFolders(cgroup),
      missing: applied.missing,
      warnings: [...warnings, ...applied.warnings],
    };
  } catch (error) {
    for (const folder of made.reverse()) {
      try {
        files.removeFolder(folder);
      } catch {
        // Another container was made in it meanwhile: it is theirs now.
      }
    }
    throw error;
  }
}

/** Sets what `resources` names and leaves the rest; devices only where they are named. @throws as createCgroup */
export function updateCgroup(
  cgroup: Cgroup,
  resources: OciResources,
  options: Pick<CgroupOptions, 'strict'>,
  files: CgroupFiles = kernelFiles,
): AppliedCgroup {
  return apply(cgroup, resources, { ...options, refused: [], creating: false }, files);
}

function apply(
  cgroup: Cgroup,
  resources: OciResources,
  options: { readonly strict: boolean; readonly refused: readonly string[]; readonly creating: boolean },
  files: CgroupFiles,
): AppliedCgroup {
  const missing: MissingLimit[] = [];
  const onMissing: OnMissing = options.strict ? throwMissing : (entry) => missing.push(entry);
  const unified = v2Member(cgroup);
  const offered = unified === undefined ? '' : (readIfThere(files, join(unified.folder, 'cgroup.controllers')) ?? '');
  const isOffered = (controller: string) => offered.split(' ').includes(v2Name(controller));
  const reason = (controller: string): string => {
    if (unified?.controllers.includes(v2Name(controller)) === true)
      return whyNotOffered(unified, v2Name(controller), files);
    if (cgroup.closed?.includes(v2Name(controller)) || cgroup.closed?.includes(controller))
      return `this user has no cgroup of its own with the controller '${v2Name(controller)}'`;
    const [refused] = options.refused;
    if (refused !== undefined) return `this user may make no cgroup in ${refused}`;
    return `this host has no cgroup controller '${controller}'`;
  };
  const versionOf = (controller: string) => {
    if (v1Member(cgroup, controller) !== undefined) return 1;
    return isOffered(controller) ? 2 : { reason: reason(controller) };
  };
  const folderOf = (controller: string): string =>
    (v1Member(cgroup, controller) ?? unified)?.folder ?? unreachable(controller);
  applySettings(settings(resources, versionOf), folderOf, onMissing, files);
  if (options.creating || resources.devices !== undefined) {
    const lost = applyDevices(cgroup, resources.devices, isPrivileged(files), onMissing, files);
    missing.push(...lost);
  }
  applyUnified(unified, resources.unified ?? {}, offered, onMissing, files);
  const memory = v1Member(cgroup, 'memory');
  const limitsTcp = memory !== undefined && files.exists(join(memory.folder, tcpLimitFile));
  return { missing, warnings: ignoredFields(resources, limitsTcp) };
}

function neededOfV2(resources: OciResources): string[] {
  const controllers = settings(resources, () => 2).map(({ controller }) => v2Name(controller));
  return [...controllers, ...Object.keys(resources.unified ?? {}).map((name) => name.split('.')[0] ?? name)];
}

const v2Name = (controller: string): string => (controller === 'blkio' ? 'io' : controller);

function unreachable(controller: string): never {
  throw new TypeError(`no hierarchy for the controller ${controller}`);
}

/** `linux.resources.unified`: files of v2 by name, last, so that they stand above what was converted. */
function applyUnified(
  member: CgroupMember | undefined,
  unified: Readonly<Record<string, string>>,
  offered: string,
  onMissing: OnMissing,
  files: CgroupFiles,
): void {
  for (const [name, value] of Object.entries(unified)) {
    const field = `linux.resources.unified[${JSON.stringify(name)}]`;
    const controller = name.split('.')[0] ?? name;
    const lost = (reason: string, details: string[] = [], cause?: unknown) =>
      onMissing({ controller, field, reason }, details, cause);
    if (member === undefined) lost('this host has no cgroup v2');
    else if (!/^[\w-]+(\.[\w-]+)+$/.test(name)) lost('it is no name of a file such as memory.high');
    else {
      const file = join(member.folder, name);
      try {
        // Of a file with a line for each device the kernel takes one line at a time.
        for (const line of value.trimEnd().split('\n')) files.write(file, line);
      } catch (error) {
        const errno = errnoOf(error);
        const details = [`writing '${value}' to ${file}: ${errno}`];
        const absent = isGone(error) && controller !== 'cgroup' && !offered.split(' ').includes(controller);
        if (absent)
          lost(`cgroup v2 has no controller '${controller}' here, only: ${offered || 'none'}`, details, error);
        else lost(`the kernel does not accept it: ${errno}`, details, error);
      }
    }
  }
}

/** The folders in the order to join them: a process must not freeze, or be filtered, before it is in all the others. */
export function joinFolders({ members }: Cgroup): string[] {
  const rank = ({ version, controllers }: CgroupMember) =>
    version === 2 ? 2 : controllers.includes('freezer') || controllers.includes('devices') ? 1 : 0;
  return members.toSorted((a, b) => rank(a) - rank(b)).map(({ folder }) => folder);
}

function cannotMake(member: CgroupMember, error: unknown): TsvError {
  const errno = errnoOf(error);
  return new TsvError('TSV_CGROUP', `linux.cgroupsPath: ${member.folder} cannot be made: ${errno ?? error}`, {
    details: isForbidden(error) ? ['this user may make no cgroup there'] : [],
    hint: 'leave cgroupsPath out, or have a cgroup delegated: systemd-run --user --scope -p Delegate=yes …',
    cause: error,
  });
}

/** A cgroup that was there before may be in no state to take a container (config-linux.md, "Control groups"). */
function checkFit(cgroup: Cgroup, made: readonly string[], files: CgroupFiles): string[] {
  const old = { ...cgroup, members: cgroup.members.filter(({ folder }) => !made.includes(folder)) };
  if (old.members.length === 0) return [];
  const where = old.members[0]?.folder ?? '';
  if (isFrozen(old, files)) {
    throw new TsvError('TSV_CGROUP', `linux.cgroupsPath: the cgroup ${where} is frozen`, {
      details: ['a container in it would not run'],
    });
  }
  const processes = cgroupProcesses(old, files);
  if (processes.includes(process.pid)) {
    throw new TsvError('TSV_CGROUP', `linux.cgroupsPath: ${where} is the cgroup of tsv itself`, {
      details: ['whatever ends the container would end tsv'],
    });
  }
  return processes.length === 0 ? [] : [`the cgroup ${where} holds ${processes.length} other processes already`];
}
