import { posix } from 'node:path';
import { AT, MS, O } from '../sys/flags.ts';
import type { Step } from '../sys/program.ts';
import { ifOpened, makeFile, makeFolders, openInRoot } from './paths.ts';
import type { OciConfig, OciDevice } from './spec.ts';

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
 * Device nodes. Nobody can make them in a user namespace: there, the host's node of the same path is bound.
 * @param bindOnly the container has a user namespace, or whoever starts it is in one
 */
export function makeDevices(devices: readonly OciDevice[], bindOnly: boolean): Step[] {
  return devices.flatMap((device) => (bindOnly && device.type !== 'p' ? bindDevice(device) : makeNode(device)));
}

function bindDevice({ path }: OciDevice): Step[] {
  return [
    ...makeFile(path),
    ...openInRoot(path, O.PATH),
    { call: 'mount', args: [path, { fdPath: 'dir' }, '', MS.BIND, 0], note: `device ${path}` },
  ];
}

function makeNode(device: OciDevice): Step[] {
  const { path, fileMode = 0o666, uid = 0, gid = 0 } = device;
  const name = posix.basename(path);
  const mode = (nodeTypes[device.type] ?? 0) | (fileMode & 0o7777);
  return [
    ...makeFolders(posix.dirname(path)),
    ...openInRoot(posix.dirname(path), O.PATH | O.DIRECTORY),
    {
      try: {
        call: 'mknodat',
        args: [{ fd: 'dir' }, name, mode, deviceNumber(device)],
        note: `device ${path}`,
      },
      unless: 'error', // EEXIST: the image brings it; the check below decides
      steps: [
        { call: 'fchmodat', args: [{ fd: 'dir' }, name, fileMode & 0o7777] },
        { call: 'fchownat', args: [{ fd: 'dir' }, name, uid, gid, AT.SYMLINK_NOFOLLOW] },
      ],
    },
    ...openInRoot(name, O.PATH | O.NOFOLLOW, { from: { fd: 'dir' }, into: 'file', note: `device ${path}` }),
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
