import { TsvError } from '../model/errors.ts';
import { type Architecture, type ArgumentTest, comparisons } from '../sys/libseccomp.ts';
import type { OciSeccomp, OciSyscallRule } from './spec.ts';

/** `linux.seccomp` of config.json (config-linux.md, "Seccomp"), checked, with the kernel's numbers for its names. */
export interface FilterRules {
  /** SECCOMP_RET_* with its data. */
  readonly defaultAction: number;
  /** Besides x86-64. */
  readonly architectures: readonly Architecture[];
  /** SECCOMP_FILTER_FLAG_* of seccomp(2). */
  readonly flags: number;
  readonly rules: readonly FilterRule[];
  readonly warnings: readonly string[];
}

export interface FilterRule {
  /** Of one system call. */
  readonly name: string;
  readonly action: number;
  /** Where the rule holds: one of these, each of which is several tests that all hold. Nothing to test: everywhere. */
  readonly cases: readonly (readonly ArgumentTest[])[];
  /** In config.json. */
  readonly path: string;
}

/** seccomp(2): SECCOMP_RET_* by the specification's names. */
const actions: Readonly<Record<string, number>> = {
  SCMP_ACT_KILL: 0x00000000,
  SCMP_ACT_KILL_PROCESS: 0x80000000,
  SCMP_ACT_KILL_THREAD: 0x00000000,
  SCMP_ACT_TRAP: 0x00030000,
  SCMP_ACT_ERRNO: 0x00050000,
  SCMP_ACT_TRACE: 0x7ff00000,
  SCMP_ACT_ALLOW: 0x7fff0000,
  SCMP_ACT_LOG: 0x7ffc0000,
};
/** Those whose lower half is a number of the profile's choice. */
const actionsWithData = ['SCMP_ACT_ERRNO', 'SCMP_ACT_TRACE'];

export const SECCOMP_RET_ERRNO = 0x00050000;
const EPERM = 1;

const operators: Readonly<Record<string, number>> = Object.fromEntries(
  Object.entries(comparisons).map(([name, comparison]) => [`SCMP_CMP_${name}`, comparison]),
);

/**
 * What SECCOMP_FILTER_FLAG_* adds to the flags. TSYNC is for the other threads of who installs the filter, and there
 * are none. WAIT_KILLABLE_RECV is about listeners, and the kernel refuses it without one.
 */
const flags: Readonly<Record<string, number>> = {
  SECCOMP_FILTER_FLAG_TSYNC: 0,
  SECCOMP_FILTER_FLAG_LOG: 2,
  SECCOMP_FILTER_FLAG_SPEC_ALLOW: 4,
  SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: 0,
};
/** When the profile has no list of flags, runc and crun set this: the mitigation that it turns off costs much. */
const defaultFlags = ['SECCOMP_FILTER_FLAG_SPEC_ALLOW'];

const ours: Readonly<Record<string, Architecture>> = {
  SCMP_ARCH_X86_64: 'x86_64',
  SCMP_ARCH_X86: 'x86',
  SCMP_ARCH_X32: 'x32',
};
const others = [
  ...['ARM', 'AARCH64', 'LOONGARCH64', 'M68K', 'MIPS', 'MIPS64', 'MIPS64N32', 'MIPSEL', 'MIPSEL64', 'MIPSEL64N32'],
  ...['PARISC', 'PARISC64', 'PPC', 'PPC64', 'PPC64LE', 'RISCV64', 'S390', 'S390X', 'SH', 'SHEB'],
].map((name) => `SCMP_ARCH_${name}`);

/** What a profile may say, by the specification's names. */
export const seccompNames = {
  actions: Object.keys(actions),
  operators: Object.keys(operators),
  architectures: [...Object.keys(ours), ...others],
  flags: Object.keys(flags),
} as const;

/** @throws TSV_SECCOMP with the JSON path of the mistake */
export function readSeccomp(seccomp: OciSeccomp, jsonPath: string): FilterRules {
  // Go writes an empty text for "none".
  if (seccomp.listenerPath !== undefined && seccomp.listenerPath !== '')
    throw mistake(`${jsonPath}.listenerPath`, 'filters that ask another process (SCMP_ACT_NOTIFY) are not supported');
  const warnings: string[] = [];
  return {
    defaultAction: readAction(seccomp.defaultAction, seccomp.defaultErrnoRet, jsonPath, {
      action: 'defaultAction',
      errno: 'defaultErrnoRet',
    }),
    architectures: readArchitectures(seccomp.architectures ?? [], jsonPath),
    flags: (seccomp.flags ?? defaultFlags).reduce((sum, flag, i) => {
      const path = `${jsonPath}.flags[${i}]`;
      if (flag === 'SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV')
        warnings.push(`${path}: ${flag} has no effect without a listener`);
      return sum | known(flags, flag, path);
    }, 0),
    rules: (seccomp.syscalls ?? []).flatMap((rule, i) => readRule(rule, `${jsonPath}.syscalls[${i}]`)),
    warnings,
  };
}

function readRule(rule: OciSyscallRule, path: string): FilterRule[] {
  const action = readAction(rule.action, rule.errnoRet, path, { action: 'action', errno: 'errnoRet' });
  const cases = readCases(rule, path);
  return rule.names.map((name, i) => {
    if (!/^[a-z0-9_]+$/i.test(name)) throw mistake(`${path}.names[${i}]`, `'${name}' is no name of a system call`);
    return { name, action, cases, path: `${path}.names[${i}]` };
  });
}

function readAction(
  name: string,
  errno: number | undefined,
  path: string,
  keys: { readonly action: string; readonly errno: string },
): number {
  if (name === 'SCMP_ACT_NOTIFY')
    throw mistake(`${path}.${keys.action}`, 'SCMP_ACT_NOTIFY, asking another process, is not supported');
  const action = known(actions, name, `${path}.${keys.action}`);
  if (!actionsWithData.includes(name)) {
    if (errno === undefined) return action;
    throw mistake(`${path}.${keys.errno}`, `${name} returns no error number`);
  }
  if (errno !== undefined && !(Number.isInteger(errno) && errno >= 0 && errno <= 0xffff))
    throw mistake(`${path}.${keys.errno}`, `${errno} is no whole number from 0 to 65535`);
  return (action | (errno ?? EPERM)) >>> 0;
}

/**
 * Tests of different arguments all have to hold. Several tests of one argument are alternatives, and then so are all
 * tests of the rule: what runc and crun have always done, and profiles rely on.
 */
function readCases(rule: OciSyscallRule, path: string): ArgumentTest[][] {
  const tests = (rule.args ?? []).map((arg, i): ArgumentTest => {
    const at = `${path}.args[${i}]`;
    if (!(Number.isInteger(arg.index) && arg.index >= 0 && arg.index <= 5))
      throw mistake(`${at}.index`, `${arg.index} is no whole number from 0 to 5`);
    return {
      index: arg.index,
      comparison: known(operators, arg.op, `${at}.op`),
      first: toUint64(arg.value, `${at}.value`),
      second: toUint64(arg.valueTwo ?? 0, `${at}.valueTwo`),
    };
  });
  const sameArgument = new Set(tests.map(({ index }) => index)).size < tests.length;
  return sameArgument ? tests.map((test) => [test]) : [tests];
}

/** Beyond 2^53 the numbers of JSON arrive rounded: 2^64 - 1 as 2^64. */
function toUint64(value: number, path: string): bigint {
  if (!Number.isInteger(value) || value < 0 || value > 2 ** 64)
    throw mistake(path, `${value} is no whole number from 0 to 2^64 - 1`);
  const exact = BigInt(value);
  return exact > 0xffff_ffff_ffff_ffffn ? 0xffff_ffff_ffff_ffffn : exact;
}

/** Those of this machine. A system call by another cannot reach this kernel: such names are checked, and that is all. */
function readArchitectures(names: readonly string[], path: string): Architecture[] {
  const found = names.flatMap((name, i) =>
    others.includes(name) ? [] : [known(ours, name, `${path}.architectures[${i}]`)],
  );
  return [...new Set(found)].filter((architecture) => architecture !== 'x86_64');
}

function known<T>(table: Readonly<Record<string, T>>, name: string, path: string): T {
  const value = Object.hasOwn(table, name) ? table[name] : undefined;
  if (value === undefined) throw mistake(path, `'${name}' is not known`);
  return value;
}

const mistake = (path: string, why: string): TsvError => new TsvError('TSV_SECCOMP', `${path}: ${why}`);
