import { closeSync, constants, existsSync, openSync, readFileSync, statSync } from 'node:fs';
import { release, userInfo } from 'node:os';
import { kvmDevice } from './run.ts';

/** What can be known of KVM without using it. */
export interface KvmHost {
  /** `open`: the device can be opened for reading and writing. Else the errno name, e.g. `ENOENT`, `EACCES`, `EBUSY`. */
  readonly device: 'open' | (string & {});
  /** Owner and mode of the device; empty when there is none. */
  readonly deviceMode: string;
  /** The group that it belongs to, when its members may use it. */
  readonly group?: {
    readonly name: string;
    /** The user is in it by /etc/group, but this process is not: it was begun before. */
    readonly isNew: boolean;
  };
  /** What /proc/cpuinfo says about hardware virtualisation. `unknown`: not an x86 CPU. */
  readonly cpuFlags: 'vmx' | 'svm' | 'none' | 'unknown';
  readonly cpuModel: string;
  readonly cpuVendor: 'intel' | 'amd' | 'other';
  /** This host is a virtual machine itself. */
  readonly isGuest: boolean;
  readonly kernelRelease: string;
  /** The kernel has KVM ready (/proc/misc), whether there is a device here or not. */
  readonly isRegistered: boolean;
  /** Modules of other hypervisors that are loaded. */
  readonly otherHypervisors: readonly string[];
  /** Name of whoever runs this; a number where there is none. */
  readonly user: string;
}

/** Modules of hypervisors that take the CPU's virtualisation for themselves. */
const hypervisorModules = ['vboxdrv', 'vmmon'];

/** Reads the host. Never throws. */
export function readKvmHost(device: string = kvmDevice): KvmHost {
  const cpuinfo = read('/proc/cpuinfo');
  const field = (name: string) => new RegExp(`^${name}\\s*: (.*)$`, 'm').exec(cpuinfo)?.[1] ?? '';
  const flags = field('flags').split(' ');
  const stat = statSync(device, { throwIfNoEntry: false });
  const opened = openKvm(device);
  const user = userName();
  const group = stat !== undefined && (stat.mode & 0o060) === 0o060 ? groupOf(stat.gid, user) : undefined;
  return {
    device: opened,
    deviceMode: stat === undefined ? '' : `${stat.uid}:${stat.gid} ${(stat.mode & 0o7777).toString(8)}`,
    ...(group === undefined ? {} : { group }),
    cpuFlags: flags.length < 2 ? 'unknown' : flags.includes('vmx') ? 'vmx' : flags.includes('svm') ? 'svm' : 'none',
    cpuModel: field('model name') || field('CPU part'),
    cpuVendor: ({ GenuineIntel: 'intel', AuthenticAMD: 'amd' } as const)[field('vendor_id')] ?? 'other',
    isGuest: flags.includes('hypervisor'),
    kernelRelease: release(),
    isRegistered: /^\s*\d+ kvm$/m.test(read('/proc/misc')),
    otherHypervisors: hypervisorModules.filter((name) => existsSync(`/sys/module/${name}`)),
    user,
  };
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return ''; // not there, or hidden from this process: nothing is known of it
  }
}

/** `open`, or the errno name. */
export function openKvm(device: string = kvmDevice): string {
  try {
    closeSync(openSync(device, constants.O_RDWR));
    return 'open';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'unknown error';
  }
}

/** group(5). A group without a name is of no use to usermod(8). */
function groupOf(gid: number, user: string): KvmHost['group'] {
  const rows = read('/etc/group')
    .split('\n')
    .map((line) => line.split(':'));
  const [name, , , members = ''] = rows.find(([, , id]) => id === String(gid)) ?? [];
  if (name === undefined) return undefined;
  const isListed = members.split(',').includes(user);
  return { name, isNew: isListed && !(process.getgroups?.() ?? []).includes(gid) };
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return String(process.getuid?.() ?? 0); // ENOENT: no line in /etc/passwd
  }
}
