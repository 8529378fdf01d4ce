import { closeSync, fstatSync, readFileSync, readlinkSync } from 'node:fs';
import { TsvError } from '../model/errors.ts';
import { CLONE } from '../sys/flags.ts';
import { trySyscall } from '../sys/libc.ts';
import type { Step } from '../sys/program.ts';
import type { OciConfig, OciNamespace, OciNamespaceType } from './spec.ts';

/** CLONE_* of each type, in the order in which they are joined: namespaces(7). */
const flags: Readonly<Record<OciNamespaceType, number>> = {
  user: CLONE.NEWUSER,
  ipc: CLONE.NEWIPC,
  uts: CLONE.NEWUTS,
  network: CLONE.NEWNET,
  pid: CLONE.NEWPID,
  cgroup: CLONE.NEWCGROUP,
  time: CLONE.NEWTIME,
  // Last: with it, paths mean something else.
  mount: CLONE.NEWNS,
};

/** Names below /proc/PID/ns. */
const procNames: Readonly<Record<OciNamespaceType, string>> = {
  user: 'user',
  ipc: 'ipc',
  uts: 'uts',
  network: 'net',
  pid: 'pid',
  cgroup: 'cgroup',
  time: 'time',
  mount: 'mnt',
};

/** What a container's list of namespaces means: which are new, which are joined; the others are the caller's. */
export interface NamespacePlan {
  /** CLONE_* of the new ones, without user, mount and time. */
  readonly others: number;
  readonly newUser: boolean;
  readonly newMount: boolean;
  readonly newTime: boolean;
  readonly joined: readonly OciNamespace[];
  /** Container root is not the caller's root: devices cannot be made, mounts of the caller are locked. */
  readonly user: boolean;
}

export function planNamespaces(config: OciConfig): NamespacePlan {
  const list = config.linux?.namespaces ?? [];
  const isNew = (type: OciNamespaceType) => list.some((entry) => entry.type === type && entry.path === undefined);
  const separate: readonly OciNamespaceType[] = ['user', 'mount', 'time'];
  return {
    others: list
      .filter(({ type, path }) => path === undefined && !separate.includes(type))
      .reduce((sum, { type }) => sum | flags[type], 0),
    newUser: isNew('user'),
    newMount: isNew('mount'),
    newTime: isNew('time'),
    joined: (Object.keys(flags) as OciNamespaceType[]).flatMap(
      (type) => list.find((entry) => entry.type === type && entry.path !== undefined) ?? [],
    ),
    user: list.some(({ type }) => type === 'user'),
  };
}

/** Name of the descriptor that holds a namespace to join. */
export const namespacePlace = (type: OciNamespaceType): string => `ns-${type}`;

/**
 * Joins namespaces that were given by path. Those that belong to the user namespace which is joined too have to wait for
 * it, all others have to come before it (setns(2): CAP_SYS_ADMIN in the owner).
 * @param owned the types that belong to the joined user namespace; see {@link ownedNamespaces}
 */
export function joinNamespaces(
  plan: NamespacePlan,
  owned: ReadonlySet<OciNamespaceType>,
  when: 'before' | 'after',
): Step[] {
  return plan.joined
    .filter(({ type }) => (when === 'after') === (type === 'user' || owned.has(type)))
    .map(({ type }) => join(type));
}

/** Which of these open namespaces belong to the open user namespace: ioctl_ns(2), NS_GET_USERNS. */
export function ownedNamespaces(
  user: number | undefined,
  open: Iterable<readonly [OciNamespaceType, number]>,
): Set<OciNamespaceType> {
  const NS_GET_USERNS = 0xb701;
  const owned = new Set<OciNamespaceType>();
  if (user === undefined) return owned;
  for (const [type, fd] of open) {
    if (type === 'user') continue;
    const owner = trySyscall('ioctl', fd, NS_GET_USERNS, 0);
    if (owner < 0) continue; // EPERM: the owner is not at or below ours
    if (fstatSync(owner).ino === fstatSync(user).ino) owned.add(type);
    closeSync(owner);
  }
  return owned;
}

const join = (type: OciNamespaceType): Step => ({
  call: 'setns',
  args: [{ fd: namespacePlace(type) }, flags[type]],
  note: `join the ${type} namespace`,
});

/** CLONE_* of the namespaces of a process that are not this process's own: what entering it means. */
export function foreignNamespaces(pid: number): number {
  return (Object.keys(flags) as OciNamespaceType[]).reduce((sum, type) => {
    const of = (process: string) => readlinkSync(`/proc/${process}/ns/${procNames[type]}`);
    try {
      return of(String(pid)) === of('self') ? sum : sum | flags[type];
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT' && type === 'time') return sum; // before Linux 5.6
      throw error;
    }
  }, 0);
}

/**
 * Namespaces that this kernel does not have cannot be asked for.
 * @throws TSV_UNSUPPORTED with the place in the configuration
 */
export function requireNamespaces(config: OciConfig): void {
  (config.linux?.namespaces ?? []).forEach(({ type }, index) => {
    try {
      readlinkSync(`/proc/self/ns/${procNames[type]}`);
    } catch {
      throw new TsvError('TSV_UNSUPPORTED', `this kernel has no ${type} namespaces`, {
        details: [`linux.namespaces[${index}].type: ${type}`],
      });
    }
  });
}

/** Whether this process is in a user namespace of its own, and not the host's: user_namespaces(7). */
export function inUserNamespace(): boolean {
  return readFileSync('/proc/self/uid_map', 'utf8').trim().split(/\s+/).join(' ') !== '0 0 4294967295';
}

/** Whether this process has CAP_SYS_ADMIN where it is: capabilities(7), proc(5). */
export function isPrivileged(): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  return (BigInt(`0x${effective}`) & (1n << 21n)) !== 0n;
}
