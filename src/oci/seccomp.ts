import { TsvError } from '../model/errors.ts';
import { errnoName } from '../sys/errno.ts';
import { type FilterContext, libseccompVersion, syscallNumber, withFilterContext } from '../sys/libseccomp.ts';
import { prologue } from './seccomp-prologue.ts';
import { type FilterRule, type FilterRules, readSeccomp } from './seccomp-rules.ts';
import type { OciSeccomp } from './spec.ts';

export { seccompNames } from './seccomp-rules.ts';

/**
 * What seccomp(2) needs: `seccomp(SECCOMP_SET_MODE_FILTER, flags, struct sock_fprog *)`.
 *
 * `struct sock_fprog` is 16 bytes: u16 with the number of instructions, six bytes of padding, the address of the first.
 * Written as two quadwords it is `length`, address of `filter`; as the argument of a step in a syscall program
 * `{ words: [length, { bytes: filter }] }`. Without CAP_SYS_ADMIN the kernel wants PR_SET_NO_NEW_PRIVS before.
 */
export interface CompiledSeccomp {
  /** An array of `struct sock_filter`, 8 bytes each. */
  readonly filter: Buffer;
  /** How many. */
  readonly length: number;
  /** SECCOMP_FILTER_FLAG_* */
  readonly flags: number;
  /** What the profile asks for and does not get, each with its JSON path. */
  readonly warnings: readonly string[];
}

/** The operation of seccomp(2) that installs a filter. */
export const SECCOMP_SET_MODE_FILTER = 1;

/** BPF_MAXINSNS: the kernel takes no longer filter. */
const maxInstructions = 4096;

/** Filters that were made lately: containers of one process mostly share their profile. The oldest goes first. */
const cache = new Map<string, CompiledSeccomp>();
const cacheSize = 16;

/**
 * The filter for a profile, on x86-64. System calls that libseccomp does not know are left out.
 * @throws TSV_SECCOMP with the JSON path of what cannot be done, TSV_HOST_MISSING without libseccomp
 */
export function compileSeccomp(seccomp: OciSeccomp, jsonPath = 'linux.seccomp'): CompiledSeccomp {
  const key = `${jsonPath}\n${JSON.stringify(seccomp)}`;
  const known = cache.get(key);
  if (known !== undefined) return known;
  const made = compile(readSeccomp(seccomp, jsonPath), jsonPath);
  const [oldest] = cache.keys();
  if (cache.size >= cacheSize && oldest !== undefined) cache.delete(oldest);
  cache.set(key, made);
  return made;
}

function compile(profile: FilterRules, jsonPath: string): CompiledSeccomp {
  const { defaultAction, architectures, rules, flags } = profile;
  const warnings = [...profile.warnings];
  const filter = withFilterContext(defaultAction, (context) => {
    for (const architecture of architectures)
      check(context.addArchitecture(architecture), `${jsonPath}.architectures`, architecture);
    // As runc: worth it for long lists only, and libseccomp up to 2.5.4 mishandles an empty tree.
    if (rules.length > 32) context.useBinaryTree();
    for (const rule of rules) {
      const number = syscallNumber(rule.name);
      if (number === undefined) warnings.push(...unknownSyscall(rule, defaultAction));
      else if (rule.action !== defaultAction) addRule(context, rule, number);
    }
    const first = prologue({ defaultAction, architectures, rules, numberOf: syscallNumber });
    return Buffer.concat([first, context.exportBpf()]);
  });
  const length = filter.length / 8;
  if (length > maxInstructions) {
    throw new TsvError('TSV_SECCOMP', `${jsonPath}: the filter would have ${length} instructions`, {
      details: [`Linux takes ${maxInstructions} at most`],
      hint: 'fewer rules with args make it shorter',
    });
  }
  return { filter, length, flags, warnings };
}

function addRule(context: FilterContext, rule: FilterRule, number: number): void {
  for (const tests of rule.cases) check(context.addRule(rule.action, number, tests), rule.path, rule.name);
}

/** What libseccomp does not know answers ENOSYS, or the default action: said only where the profile wants it stricter. */
function unknownSyscall(rule: FilterRule, defaultAction: number): string[] {
  const signed = (action: number): number => action | 0;
  if (signed(rule.action) >= signed(defaultAction)) return [];
  const { version } = libseccompVersion();
  return [`${rule.path}: libseccomp ${version} does not know '${rule.name}': the default action holds for it`];
}

function check(errno: number, path: string, what: string): void {
  if (errno === 0) return;
  throw new TsvError('TSV_SECCOMP', `${path}: libseccomp refuses '${what}' with ${errnoName(errno)}`, {
    ...(errnoName(errno) === 'EEXIST'
      ? { hint: 'another rule of the profile says something else of the same call' }
      : {}),
  });
}
