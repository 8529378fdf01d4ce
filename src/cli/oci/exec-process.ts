import { TsvError } from '../../model/errors.ts';
import type { OciCapabilities, OciProcess, OciUser } from '../../oci/spec.ts';
import type { OptionsOf } from './commands.ts';

/**
 * The process that `exec` runs: the container's own, with another command and what the options say.
 * @param base `process` of the container's configuration
 * @throws TSV_USAGE
 */
export function execProcess(
  base: OciProcess | undefined,
  args: readonly string[],
  options: OptionsOf<'exec'>,
): OciProcess {
  if (args.length === 0) {
    throw new TsvError('TSV_USAGE', 'no command is given', { hint: 'tsv oci exec ID COMMAND, or --process FILE' });
  }
  const { cwd, apparmor, cap } = options;
  return {
    cwd: '/',
    ...base,
    args,
    env: withVariables(base?.env ?? [], options.env ?? []),
    user: execUser(base?.user ?? { uid: 0, gid: 0 }, options),
    terminal: options.tty ?? false,
    ...(cwd === undefined || cwd === '' ? {} : { cwd }),
    ...(cap === undefined ? {} : { capabilities: withCapabilities(base?.capabilities ?? {}, cap) }),
    ...(options['no-new-privs'] === undefined ? {} : { noNewPrivileges: options['no-new-privs'] }),
    ...(apparmor === undefined || apparmor === '' ? {} : { apparmorProfile: apparmor }),
    ...labelOf(options['process-label']),
  };
}

const labelOf = (label: string | undefined): Pick<OciProcess, 'selinuxLabel'> =>
  label === undefined || label === '' ? {} : { selinuxLabel: label };

/** Of two variables with one name the later counts: getenv(3) would find the first. */
function withVariables(before: readonly string[], added: readonly string[]): readonly string[] {
  const nameOf = (entry: string) => entry.split('=', 1)[0] ?? '';
  const replaced = new Set(added.map(nameOf));
  const last = new Map(added.map((entry) => [nameOf(entry), entry]));
  return [...before.filter((entry) => !replaced.has(nameOf(entry))), ...last.values()];
}

function execUser(base: OciUser, options: OptionsOf<'exec'>): OciUser {
  const [uid, gid] = options.user === undefined ? [] : readUser(options.user);
  const groups = (options['additional-gids'] ?? []).map((group) => id(String(group), 'additional-gids'));
  return {
    ...base,
    ...(uid === undefined ? {} : { uid }),
    ...(gid === undefined ? {} : { gid }),
    ...(groups.length === 0 ? {} : { additionalGids: [...(base.additionalGids ?? []), ...groups] }),
  };
}

function readUser(text: string): [uid: number, gid?: number] {
  const [uid = '', gid, ...more] = text.split(':');
  if (more.length > 0) throw notAnId(text, 'user');
  return gid === undefined ? [id(uid, 'user')] : [id(uid, 'user'), id(gid, 'user')];
}

/** 4294967295 is -1 to the kernel, which leaves a process the user that it is: root. */
const highestId = 4294967294;

function id(text: string, option: string): number {
  if (/^\d+$/.test(text) && Number(text) <= highestId) return Number(text);
  throw notAnId(text, option);
}

const notAnId = (text: string, option: string): TsvError =>
  new TsvError('TSV_USAGE', `--${option}: ${JSON.stringify(text)} is not the number of a user or group`, {
    details: [`it must be a whole number from 0 to ${highestId}`],
  });

function withCapabilities(before: OciCapabilities, added: readonly string[]): OciCapabilities {
  const sets = ['bounding', 'effective', 'permitted', 'ambient'] as const;
  return {
    ...before,
    ...Object.fromEntries(sets.map((set) => [set, [...new Set([...(before[set] ?? []), ...added])]])),
  };
}
