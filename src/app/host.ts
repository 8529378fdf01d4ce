import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { refuseDisks } from '../model/disks.ts';
import { TsvError } from '../model/errors.ts';
import { refuseImpossible } from '../model/impossible.ts';
import { mendCommands } from '../model/mend.ts';
import type { MachineKind, Project } from '../model/project.ts';
import type { Requirement } from '../model/provider.ts';
import { readUserMap } from '../sys/userns.ts';
import programs from './host-programs.json' with { type: 'json' };

const searchPath = `${process.env.PATH ?? ''}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin`;

const isInstalled = (program: string): boolean =>
  searchPath.split(':').some((dir) => isAllowed(`${dir}/${program}`, constants.X_OK));

function isAllowed(path: string, mode: number): boolean {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}

/** Everything that tsv itself needs of this host for machines of these kinds. Changes nothing, runs nothing. */
export function hostRequirements(kinds: readonly MachineKind[], uid = userInfo().uid): Requirement[] {
  const needed = [...programs.all, ...(uid === 0 ? [] : programs.user), ...(kinds.includes('vm') ? programs.vm : [])];
  return [
    ...needed.map((entry): Requirement => {
      const ok = isInstalled(entry.program);
      return {
        id: entry.program,
        description: entry.why,
        ok,
        required: true,
        detail: ok ? entry.program : `${entry.program} is not installed`,
        mend: `sudo apt-get install -y --no-install-recommends ${entry.package}`,
      };
    }),
    ...(uid === 0 ? [] : [subordinateIds()]),
    userNamespaces(uid),
    ...(uid !== 0 || kinds.includes('vm') ? [tunDevice()] : []),
    ...(uid === 0 && kinds.includes('container') ? [containerDisks()] : []),
  ];
}

function subordinateIds(): Requirement {
  const common = { id: 'subuid', description: 'ids for the users inside containers', required: true };
  try {
    readUserMap();
    return { ...common, ok: true, detail: '/etc/subuid and /etc/subgid have a range for you' };
  } catch (error) {
    const { message, hint } = error as TsvError;
    return { ...common, ok: false, detail: message, ...(hint === undefined ? {} : { mend: hint }) };
  }
}

/** Distributions switch unprivileged user namespaces off in different ways (user_namespaces(7), AppArmor). */
function userNamespaces(uid: number): Requirement {
  const common = { id: 'user-namespaces', description: 'sandboxes without root', required: true };
  const read = (file: string) => (existsSync(file) ? readFileSync(file, 'utf8').trim() : undefined);
  const switches = [
    { file: '/proc/sys/user/max_user_namespaces', off: '0', mend: 'sudo sysctl -w user.max_user_namespaces=65536' },
    ...(uid === 0
      ? []
      : [
          {
            file: '/proc/sys/kernel/unprivileged_userns_clone',
            off: '0',
            mend: 'sudo sysctl -w kernel.unprivileged_userns_clone=1',
          },
          {
            file: '/proc/sys/kernel/apparmor_restrict_unprivileged_userns',
            off: '1',
            mend: 'sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0',
          },
        ]),
  ];
  const off = switches.find(({ file, off }) => read(file) === off);
  return off === undefined
    ? { ...common, ok: true, detail: 'user namespaces are allowed' }
    : { ...common, ok: false, detail: `${off.file} is ${off.off}`, mend: off.mend };
}

function tunDevice(): Requirement {
  const ok = isAllowed('/dev/net/tun', constants.R_OK | constants.W_OK);
  return {
    id: 'tun',
    description: 'network interfaces of virtual machines and of the way out',
    ok,
    required: true,
    detail: ok
      ? '/dev/net/tun can be opened'
      : existsSync('/dev/net/tun')
        ? '/dev/net/tun may not be opened by you'
        : '/dev/net/tun is not there',
    mend: existsSync('/dev/net/tun') ? 'sudo chmod 0666 /dev/net/tun' : 'sudo modprobe tun',
  };
}

/** Only root can have them, and most machines have none: nothing is missing without. */
function containerDisks(): Requirement {
  const common = { id: 'disks', description: 'disks of containers', required: false };
  const missing = ['mke2fs', 'e2fsck', 'resize2fs'].filter((program) => !isInstalled(program));
  if (missing.length > 0) {
    const mend = 'sudo apt-get install -y --no-install-recommends e2fsprogs';
    return { ...common, ok: false, detail: `not installed: ${missing.join(', ')}`, mend };
  }
  return isAllowed('/dev/loop-control', constants.R_OK | constants.W_OK)
    ? { ...common, ok: true, detail: 'ext4 on loop devices' }
    : { ...common, ok: false, detail: '/dev/loop-control cannot be used', mend: 'sudo modprobe loop' };
}

/** What this user cannot have on any host. Before anything is created. @throws TSV_UNSUPPORTED, with all of it */
export function requirePossible(project: Project, uid = userInfo().uid): void {
  refuseImpossible(project, (machine) => refuseDisks(machine, uid === 0));
}

/** Before anything is created. @throws TSV_HOST_MISSING with everything that is missing and the commands that mend it */
export function requireHost(kinds: readonly MachineKind[]): void {
  const missing = hostRequirements(kinds).filter((requirement) => requirement.required && !requirement.ok);
  if (missing.length === 0) return;
  throw new TsvError(
    'TSV_HOST_MISSING',
    `this host lacks ${missing.length === 1 ? 'something' : `${missing.length} things`} that tsv needs`,
    {
      details: missing.map((requirement) => `${requirement.detail} (${requirement.description})`),
      hint: mendCommands(missing).join('\n'),
    },
  );
}
