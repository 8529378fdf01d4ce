import { statSync } from 'node:fs';
import { join, posix, resolve } from 'node:path';
import type { Cgroup } from '../cgroup/index.ts';
import { TsvError } from '../model/errors.ts';
import { MOUNT_ATTR } from '../sys/flags.ts';
import { ofNewFilesystem, readMountOptions } from './mount-options.ts';
import { isBind, type PlannedMount } from './mounts.ts';
import { resolveInRoot } from './resolve.ts';
import type { OciConfig, OciMount } from './spec.ts';

export interface MountHost {
  /** Relative sources begin here. */
  readonly bundle: string;
  /** Where the root file system can be looked at before the container has its own view of it, if anywhere. */
  readonly rootfs: string | undefined;
  readonly cgroup: Cgroup;
  readonly ownCgroupNamespace: boolean;
  /** Descriptor of the user namespace whose id map a mount gets. @throws where none can be made */
  idmap(mount: OciMount, at: string): string | undefined;
  /** Of a read-only bind, an id map that the file system cannot do is left out. */
  readonly idmapOptional: boolean;
  /** Sources of binds that are mounts already. */
  readonly given?: ReadonlySet<string>;
}

/**
 * The mounts of a configuration as this host can do them.
 * @throws TSV_BUNDLE naming the JSON path: a source that is not there, an id map that is none
 */
export function planMounts(config: OciConfig, host: MountHost): PlannedMount[] {
  const label = config.linux?.mountLabel;
  const planned = (config.mounts ?? []).flatMap((mount, index) => plan(mount, `mounts[${index}]`, host));
  return label === undefined ? planned : planned.map((mount) => labelled(mount, label));
}

/** SELinux: proc and sysfs have labels of their own. */
function labelled(mount: PlannedMount, label: string): PlannedMount {
  if (mount.kind !== 'filesystem' || mount.type === 'proc' || mount.type === 'sysfs') return mount;
  return { ...mount, options: { ...mount.options, data: [...mount.options.data, `context="${label}"`] } };
}

function plan(mount: OciMount, at: string, host: MountHost): PlannedMount[] {
  const named = posix.join('/', mount.destination);
  // What is mounted on a link goes to where it leads, and may have to be made there.
  const destination = isPlain(mount, named) || host.rootfs === undefined ? named : resolveInRoot(host.rootfs, named);
  const words = mount.options ?? [];
  const isRemount = words.includes('remount');
  const options = readMountOptions(isBind(mount) || isRemount ? words : ofNewFilesystem(words));
  if (isRemount) return [{ at, kind: 'remount', destination, options }];
  if (isBind(mount)) {
    const source = resolve(host.bundle, mount.source ?? '');
    const given = host.given?.has(source) === true;
    const idmap = host.idmap(mount, at);
    return [
      {
        at,
        kind: 'bind',
        destination,
        source,
        folder: given || isFolder(source, at),
        options,
        ...(given ? { given } : {}),
        // Without its owners a share can still be read.
        ...(idmap === undefined ? {} : { idmap, idmapOptional: host.idmapOptional && isReadonly(options) }),
      },
    ];
  }
  if (options.idmap !== 'no' || mount.uidMappings !== undefined) {
    throw new TsvError('TSV_BUNDLE', `${at}.uidMappings: only a bind can have its ids mapped`);
  }
  const type = mount.type ?? 'none';
  const source = mount.source ?? type;
  if (type === 'cgroup') return cgroupMount(destination, at, host, options);
  if (type === 'tmpfs') {
    const mode = options.data.some((entry) => entry.startsWith('mode='))
      ? undefined
      : modeBelow(host.rootfs, destination);
    const data = mode === undefined ? options.data : [...options.data, `mode=${mode.toString(8)}`];
    return [{ at, kind: 'filesystem', destination, type, source, options: { ...options, data } }];
  }
  return [{ at, kind: 'filesystem', destination, type, source, options }];
}

const isReadonly = ({ attributes, recursive }: ReturnType<typeof readMountOptions>): boolean =>
  ((attributes.set | recursive.set) & MOUNT_ATTR.RDONLY) !== 0;

function isFolder(source: string, at: string): boolean {
  try {
    return statSync(source).isDirectory();
  } catch (error) {
    const errno = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new TsvError('TSV_BUNDLE', `${at}.source: ${source}: ${errno === 'ENOENT' ? 'not there' : errno}`, {
      cause: error,
    });
  }
}

/** Kernel file systems and /dev are mounted on plain folders only: a link in their place is refused, not followed. */
const isPlain = ({ type }: OciMount, destination: string): boolean =>
  type === 'proc' || type === 'sysfs' || destination === '/dev';

/** A tmpfs over a folder looks like that folder: /tmp stays open to all. */
function modeBelow(rootfs: string | undefined, destination: string): number | undefined {
  if (rootfs === undefined) return undefined;
  try {
    return statSync(join(rootfs, destination)).mode & 0o7777;
  } catch {
    return undefined; // it will be made
  }
}

function cgroupMount(
  destination: string,
  at: string,
  host: MountHost,
  options: ReturnType<typeof readMountOptions>,
): PlannedMount[] {
  const v1 = host.cgroup.members.filter(({ version }) => version === 1);
  const unified = host.cgroup.members.find(({ version }) => version === 2);
  if (v1.length > 0) {
    const hierarchies = v1.map(({ name, folder }) => ({
      name: name.replace(/^name=/, ''),
      data: name.startsWith('name=') ? `none,${name}` : name,
      folder,
    }));
    return [{ at, kind: 'cgroup1', destination, options, hierarchies, ownNamespace: host.ownCgroupNamespace }];
  }
  // Who may make no cgroup has its own to show, which a namespace of the container's begins at.
  const isV2 = unified !== undefined || host.cgroup.mode === 'v2';
  if (host.ownCgroupNamespace && isV2) {
    return [{ at, kind: 'filesystem', destination, type: 'cgroup2', source: 'cgroup', options }];
  }
  if (unified === undefined) return [];
  return [{ at, kind: 'bind', destination, source: unified.folder, folder: true, options }];
}

/** The folder of the root file system: config.md, "Root". */
export const rootfsFolder = (config: OciConfig, bundle: string): string =>
  resolve(bundle, config.root?.path ?? 'rootfs');
