import { posix } from 'node:path';
import { TsvError } from '../model/errors.ts';
import { AT, MNT_DETACH, MOVE_MOUNT, MS, O, OPEN_TREE } from '../sys/flags.ts';
import type { CallStep, Step } from '../sys/program.ts';
import { inUserNamespace, isPrivileged, type NamespacePlan } from './namespaces.ts';
import { ifOpened, keepAs, makeFile, makeFolders, openInRoot } from './paths.ts';
import type { OciConfig, OciDevice, OciIdMapping } from './spec.ts';

/** config-linux.md, "Default Devices": every container has them. */
export const defaultDevices: readonly OciDevice[] = (
  [
    ['null', 1, 3],
    ['zero', 1, 5],
    ['full', 1, 7],
    ['random', 1, 8],
    ['urandom', 1, 9],
    ['tty', 5, 0],
  ] as const
).map(([name, major, minor]) => ({ path: `/dev/${name}`, type: 'c', major, minor, fileMode: 0o666, uid: 0, gid: 0 }));

/** The devices of a container: the default ones, unless it describes them itself, and its own. */
export function containerDevices(config: OciConfig): OciDevice[] {
  const own = config.linux?.devices ?? [];
  const described = new Set(own.map(({ path }) => posix.normalize(path)));
  return [...defaultDevices.filter(({ path }) => !described.has(path)), ...own];
}

/** makedev(3) as mknod(2) takes it. */
const deviceNumber = ({ major = 0, minor = 0 }: OciDevice): number =>
  (major & 0xfffff000) * 2 ** 20 + (major & 0xfff) * 256 + ((minor & 0xffffff00) * 2 ** 12 + (minor & 0xff));

const nodeTypes: Readonly<Record<string, number>> = { c: 0o020000, u: 0o020000, b: 0o060000, p: 0o010000 };

/**
 * How nodes come into a container. `make`: by mknod(2). Nobody may do that in a user namespace. `bring`: whoever starts it
 * may outside, and they are bound, see {@link bringDevices}. `host`: nodes of the host with the same paths are bound.
 */
export type DeviceSource = 'make' | 'bring' | 'host';

/** Whether /dev is the container's: a bind of the host's is left as it is. */
export const ownDev = (config: OciConfig): boolean =>
  !(config.mounts ?? []).some(
    ({ destination, type, options = [] }) =>
      /^\/dev\/?$/.test(destination) && (type === 'bind' || options.includes('bind') || options.includes('rbind')),
  );

/** Where nodes can be made at all, and where a mount namespace is ours to make them in. */
export function sourceOfDevices(config: OciConfig, { user, newUser, newMount }: NamespacePlan): DeviceSource {
  if (inUserNamespace()) return 'host';
  if (!user) return 'make';
  return newUser && newMount && isPrivileged() && ownDev(config) ? 'bring' : 'host';
}

/**
 * The host's ids for the owner of a device, which the specification gives as ids of the container.
 * @throws TSV_BUNDLE naming the JSON path
 */
export function deviceOwner({ linux = {} }: OciConfig, device: OciDevice): { uid: number; gid: number } {
  const { uidMappings = [], gidMappings = [] } = linux;
  const hostId = (key: 'uid' | 'gid', mappings: readonly OciIdMapping[]): number => {
    const id = device[key] ?? 0;
    const range = mappings.find(({ containerID, size }) => id >= containerID && id < containerID + size);
    if (range !== undefined) return range.hostID + id - range.containerID;
    const index = linux.devices?.indexOf(device) ?? -1;
    // One of the default devices, in a container without root: they are for all, whoever owns them.
    if (index < 0) return 0;
    throw new TsvError('TSV_BUNDLE', `linux.devices[${index}].${key}: ${id} is in no range of linux.${key}Mappings`);
  };
  return { uid: hostId('uid', uidMappings), gid: hostId('gid', gidMappings) };
}

/** The device nodes of a container, which stands in its root file system. */
export function makeDevices(devices: readonly OciDevice[], source: DeviceSource): Step[] {
  return devices.flatMap((device, index) => {
    // A FIFO is no device: anybody can make it.
    if (source === 'make' || device.type === 'p') return makeNode(device);
    return source === 'bring' ? attachDevice(device, index) : bindDevice(device);
  });
}

/** Name of the descriptor that holds a node until it is attached. */
export const devicePlace = (index: number): string => `device${index}`;

/** The descriptors that {@link bringDevices} needs. */
export const devicePlaces = (devices: readonly OciDevice[]): string[] =>
  devices.flatMap(({ type }, index) => (type === 'p' ? [] : [devicePlace(index)]));

/**
 * Makes the nodes outside of the container's user namespace, where they work, with the owners that they have in it, and
 * takes hold of each. They lie in a file system of their own, which nothing else leads to.
 * @param folder of the caller's, in a mount namespace of its own; it is covered meanwhile
 * @param hostIds what a uid and a gid of the container are outside
 */
export function bringDevices(devices: readonly OciDevice[], folder: string, hostIds: HostIds): Step[] {
  const nodes = devices.flatMap((device, index) => (device.type === 'p' ? [] : [{ device, index }]));
  if (nodes.length === 0) return [];
  return [
    { call: 'mount', args: ['tmpfs', folder, 'tmpfs', MS.NOSUID, 'mode=755'], note: 'for device nodes' },
    { call: 'chdir', args: [folder] },
    ...openInRoot('/', O.PATH | O.DIRECTORY),
    ...nodes.flatMap(({ device, index }): Step[] => {
      const { uid, gid } = hostIds(device);
      const note = `device ${device.path}`;
      const as = `node ${index}`;
      const { make, take, settle } = mknod(String(index), { ...device, uid, gid });
      return [
        make,
        ...take,
        ...settle,
        { call: 'open_tree', args: [{ fd: 'dir' }, String(index), OPEN_TREE.CLONE | OPEN_TREE.CLOEXEC], as, note },
        ...keepAs(as, devicePlace(index)),
      ];
    }),
    { call: 'umount2', args: [folder, MNT_DETACH] },
  ];
}

export type HostIds = (device: OciDevice) => { readonly uid: number; readonly gid: number };

function attachDevice({ path }: OciDevice, index: number): Step[] {
  return [
    ...makeFile(path),
    ...openInRoot(path, O.PATH),
    {
      call: 'move_mount',
      args: [{ fd: devicePlace(index) }, '', { fd: 'dir' }, '', MOVE_MOUNT.F_EMPTY_PATH | MOVE_MOUNT.T_EMPTY_PATH],
      note: `device ${path}`,
    },
    { call: 'close', args: [{ fd: devicePlace(index) }] },
  ];
}

function bindDevice({ path }: OciDevice): Step[] {
  return [
    ...makeFile(path),
    ...openInRoot(path, O.PATH),
    { call: 'mount', args: [path, { fdPath: 'dir' }, '', MS.BIND, 0], note: `device ${path}` },
  ];
}

/**
 * A node in the folder that is open as `dir`: the call that makes it, those that take hold of it as `file`, and those that
 * then give it its owner, and its mode whatever the mask of the caller is. By descriptor: who shares the folder may put a
 * link in its place meanwhile.
 */
function mknod(name: string, device: OciDevice): { make: CallStep; take: Step[]; settle: Step[] } {
  const { path, fileMode = 0o666, uid = 0, gid = 0 } = device;
  const mode = (nodeTypes[device.type] ?? 0) | (fileMode & 0o7777);
  const note = `device ${path}`;
  return {
    make: { call: 'mknodat', args: [{ fd: 'dir' }, name, mode, deviceNumber(device)], note },
    take: openInRoot(name, O.PATH | O.NOFOLLOW, { from: { fd: 'dir' }, into: 'file', note }),
    settle: [
      { call: 'fchmodat', args: [AT.FDCWD, { fdPath: 'file' }, fileMode & 0o7777] },
      { call: 'fchownat', args: [{ fd: 'file' }, '', uid, gid, AT.EMPTY_PATH] },
    ],
  };
}

function makeNode(device: OciDevice): Step[] {
  const { path } = device;
  const { make, take, settle } = mknod(posix.basename(path), device);
  return [
    ...makeFolders(posix.dirname(path)),
    ...openInRoot(posix.dirname(path), O.PATH | O.DIRECTORY),
    // EEXIST: the image brings it; any other error shows in that it is not there.
    { try: make, unless: 'error', steps: [...take, ...settle], otherwise: take },
  ];
}

/** Links that programs expect in /dev (config-linux.md, "Dev symbolic links"), over whatever the image has there. */
export function devLinks(): Step[] {
  const links: readonly (readonly [name: string, target: string])[] = [
    ['fd', '/proc/self/fd'],
    ['stdin', '/proc/self/fd/0'],
    ['stdout', '/proc/self/fd/1'],
    ['stderr', '/proc/self/fd/2'],
    ['core', '/proc/kcore'],
  ];
  return [
    ...openInRoot('/dev', O.PATH | O.DIRECTORY),
    ...links.map(([name, target]): Step => ({ call: 'symlinkat', args: [target, { fd: 'dir' }, name], mode: 'may' })),
    // Terminals come from the container's own devpts, whatever the image has here.
    ifOpened('/dev/pts', O.PATH | O.DIRECTORY, 'absent', [
      ...openInRoot('/dev', O.PATH | O.DIRECTORY),
      { call: 'unlinkat', args: [{ fd: 'dir' }, 'ptmx', 0], mode: 'may' },
      { call: 'symlinkat', args: ['pts/ptmx', { fd: 'dir' }, 'ptmx'], mode: 'may' },
    ]),
  ];
}
