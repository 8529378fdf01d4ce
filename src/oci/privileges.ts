import { capabilityMask, capabilityNames, capsetArguments } from '../sys/capabilities.ts';
import { AT, O, PR } from '../sys/flags.ts';
import { stdio } from '../sys/fork.ts';
import type { CallStep, Step } from '../sys/program.ts';
import { openInRoot } from './paths.ts';
import { applyLabels } from './proc.ts';
import { compileSeccomp, SECCOMP_SET_MODE_FILTER } from './seccomp.ts';
import type { OciProcess, OciSeccomp } from './spec.ts';

export interface UserIds {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
}

/** setgroups(2), setresgid(2), setresuid(2). */
export function becomeUser(user: UserIds, groups: 'must' | 'may' = 'must'): Step[] {
  const list = Buffer.alloc(Math.max(4, user.groups.length * 4));
  user.groups.forEach((group, i) => {
    list.writeUInt32LE(group, i * 4);
  });
  return [
    { call: 'setgroups', args: [user.groups.length, { bytes: list }], mode: groups },
    { call: 'setresgid', args: [user.gid, user.gid, user.gid] },
    { call: 'setresuid', args: [user.uid, user.uid, user.uid] },
  ];
}

export interface ReduceOptions {
  readonly process: OciProcess;
  readonly seccomp?: OciSeccomp;
  /** The kernel's highest capability. */
  readonly lastCapability: number;
  /** What this process may pass on at all; see {@link reduce}. */
  readonly bounding: bigint;
  /** `may` where the user namespace forbids setgroups(2) and nobody asked for groups. */
  readonly groups: 'must' | 'may';
}

/**
 * From root of the container to what the process may be: bounding set, user, the five sets, working directory, no new
 * privileges, system call filter. Nothing of the container runs before this is done.
 * @param rest what has to be done until the command is executed. A filter knows only what the command needs, so as little
 * as possible comes after it: with no_new_privs nothing; without, it needs CAP_SYS_ADMIN (seccomp(2)) and so comes
 * before that is given up.
 */
export function reduce(options: ReduceOptions, rest: readonly Step[] = []): Step[] {
  const { process, lastCapability } = options;
  const { capabilities = {}, noNewPrivileges = false } = process;
  const user: UserIds = {
    uid: process.user?.uid ?? 0,
    gid: process.user?.gid ?? 0,
    groups: process.user?.additionalGids ?? [],
  };
  const mask = (names: readonly string[] | undefined): bigint => capabilityMask(names ?? []) & options.bounding;
  const bounding = mask(capabilities.bounding);
  const permitted = mask(capabilities.permitted);
  const inheritable = mask(capabilities.inheritable);
  // The kernel takes no others, and runc passes them over (capabilities(7), "Ambient").
  const ambient = mask(capabilities.ambient) & permitted & inheritable;
  const { header, data } = capsetArguments({
    permitted,
    effective: mask(capabilities.effective) & permitted,
    inheritable,
  });
  const numbers = Array.from({ length: lastCapability + 1 }, (_, number) => number);
  const inMask = (set: bigint, number: number): boolean => (set & (1n << BigInt(number))) !== 0n;
  return [
    { call: 'keyctl', args: [1, 0], mode: 'may', note: 'a session keyring of its own' },
    ...applyLabels(process),
    // By descriptor, and through no link of /proc: it cannot lead to what is open here (CVE-2024-21626).
    ...openInRoot(process.cwd, O.PATH | O.DIRECTORY, { note: folderNote(process.cwd) }),
    ...enterFolder(process.cwd, user),
    ...(noNewPrivileges ? [] : confine(options)),
    ...numbers
      .filter((number) => !inMask(bounding, number))
      .map(
        (number): Step => ({
          call: 'prctl',
          args: [PR.CAPBSET_DROP, number],
          note: `drop ${capabilityNames[number] ?? number}`,
        }),
      ),
    { call: 'prctl', args: [PR.SET_KEEPCAPS, 1, 0, 0, 0] },
    ...becomeUser(user, options.groups),
    { call: 'prctl', args: [PR.SET_KEEPCAPS, 0, 0, 0, 0] },
    { call: 'capset', args: [{ bytes: header }, { bytes: data }] },
    ...numbers
      .filter((number) => inMask(ambient, number))
      .map((number): Step => ({ call: 'prctl', args: [PR.CAP_AMBIENT, PR.CAP_AMBIENT_RAISE, number, 0, 0] })),
    ...(noNewPrivileges ? [{ call: 'prctl', args: [PR.SET_NO_NEW_PRIVS, 1, 0, 0, 0] } satisfies CallStep] : []),
    ...rest,
    ...finish(options),
  ];
}

/**
 * What a process is to have and cannot be given, for the log: config.md, "capabilities", asks for a warning.
 * @param passable as {@link ReduceOptions.bounding}
 */
export function withheldCapabilities({ capabilities = {} }: OciProcess, passable: bigint): string[] {
  const asked = new Set(Object.values(capabilities).flat());
  const withheld = [...asked].filter((name) => (capabilityMask([name]) & passable) === 0n);
  return withheld.length === 0
    ? []
    : [`process.capabilities: whoever starts it does not have them, left out: ${withheld.join(', ')}`];
}

/** What {@link reduce} leaves until after the rest. */
export const finish = (options: ReduceOptions): Step[] =>
  options.process.noNewPrivileges === true ? confine(options) : [];

const confine = ({ seccomp }: ReduceOptions): Step[] => [...stdio(), ...seccompStep(seccomp)];

/** As root of the container; where that one may not (a network file system), as the user. */
function enterFolder(cwd: string, { uid, gid }: UserIds): Step[] {
  const enter: CallStep = { call: 'fchdir', args: [{ fd: 'dir' }], note: folderNote(cwd) };
  const otherwise: Step[] = [{ call: 'setfsgid', args: [gid] }, { call: 'setfsuid', args: [uid] }, enter];
  return [{ try: enter, unless: 'error', steps: [], otherwise }];
}

export const folderNote = (cwd: string): string => `working directory ${cwd}`;

function seccompStep(seccomp: OciSeccomp | undefined): Step[] {
  if (seccomp === undefined) return [];
  const { filter, length, flags } = compileSeccomp(seccomp);
  return [
    {
      call: 'seccomp',
      args: [SECCOMP_SET_MODE_FILTER, flags, { words: [length, { bytes: filter }] }],
      note: 'system call filter',
    },
  ];
}

/** The folders in which a command without a slash is looked for, when its environment does not say. */
export const defaultPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** The files that a command can be, as execvp(3) looks for it. */
export function commandFiles(argv: readonly string[], env: readonly string[]): string[] {
  const [command = ''] = argv;
  if (command.includes('/')) return [command];
  const path = env.find((entry) => entry.startsWith('PATH='))?.slice(5) ?? defaultPath;
  return path.split(':').map((dir) => `${dir === '' ? '.' : dir}/${command}`);
}

/** Fails as execve(2) would when the command is not there or cannot be executed, but before anything waits for it. */
export function requireCommand(argv: readonly string[], env: readonly string[]): Step[] {
  const X_OK = 1;
  return commandFiles(argv, env).reduceRight<Step[]>((otherwise, file) => {
    const call: CallStep = { call: 'faccessat', args: [AT.FDCWD, file, X_OK], note: commandNote };
    return otherwise.length === 0 ? [call] : [{ try: call, unless: 'error', steps: [], otherwise }];
  }, []);
}

export const commandNote = 'the command';

/** execve(2) of the command, or of `file` with its arguments. */
export function execute(argv: readonly string[], env: readonly string[], file?: string): Step[] {
  const files = file === undefined ? commandFiles(argv, env) : [file];
  return files.map((path, i) => ({
    call: 'execve',
    args: [path, { strings: [...argv] }, { strings: [...env] }],
    mode: i < files.length - 1 ? 'may' : 'must',
    note: commandNote,
  }));
}
