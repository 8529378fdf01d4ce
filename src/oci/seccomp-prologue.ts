import type { Architecture } from '../sys/libseccomp.ts';
import { type FilterRule, SECCOMP_RET_ERRNO } from './seccomp-rules.ts';

/*
 * What runs before libseccomp's part of a filter, in classic BPF:
 *
 * 1. A system call that is newer than all of the profile answers ENOSYS, as it does on the kernels that the profile was
 *    written for: programs then do without it. With the default action, mostly EPERM, they would give up. So for numbers
 *    above the highest that the profile names, unless its default action lets such calls through.
 * 2. socketcall(2) and ipc(2) of i386 carry the arguments of socket(2), semop(2), … behind a pointer, where no filter
 *    can look. For a rule on such an argument libseccomp also makes one on the carrier, without the test: a profile
 *    that allows socket(2) for some families would allow socketcall(SYS_SOCKET) for all. Here what cannot be tested
 *    counts as the worse case. A profile that allows the carrier itself has it so.
 */

/** struct sock_filter without its jumps: those are labels until the end. */
type Line =
  | { readonly label: string }
  | { readonly code: number; readonly k: number; readonly yes?: string; readonly no?: string };

const load = (offset: number): Line => ({ code: 0x20, k: offset }); // BPF_LD | BPF_W | BPF_ABS
const and = (k: number): Line => ({ code: 0x54, k }); // BPF_ALU | BPF_AND | BPF_K
const jump = (to: string): Line => ({ code: 0x05, k: 0, yes: to }); // BPF_JMP | BPF_JA
const ifEqual = (k: number, yes: string): Line => ({ code: 0x15, k, yes }); // BPF_JMP | BPF_JEQ | BPF_K
const ifGreater = (k: number, yes: string): Line => ({ code: 0x25, k, yes }); // BPF_JMP | BPF_JGT | BPF_K
const ifAnyBit = (k: number, yes: string): Line => ({ code: 0x45, k, yes }); // BPF_JMP | BPF_JSET | BPF_K
const answer = (action: number): Line => ({ code: 0x06, k: action }); // BPF_RET | BPF_K
const label = (name: string): Line => ({ label: name });

/** struct seccomp_data, seccomp(2); the lower half of the first argument. */
const data = { nr: 0, arch: 4, firstArgument: 16 } as const;
/** linux/audit.h */
const AUDIT_ARCH = { X86_64: 0xc000003e, I386: 0x40000003 } as const;
/** A number of x32 has this bit, asm/unistd.h. */
const X32_SYSCALL_BIT = 0x40000000;
const ENOSYS = 38;

interface Carrier {
  readonly name: string;
  readonly number: number;
  /** Which bits of the first argument name the call. */
  readonly mask: number;
  /** By name: its number within the carrier, and one of its own where i386 has that too. */
  readonly calls: Readonly<Record<string, readonly [carried: number, own?: number]>>;
}

/** socketcall(2), linux/net.h; ipc(2), linux/ipc.h (the upper half of its first argument is a version). */
const carriers: readonly Carrier[] = [
  {
    name: 'socketcall',
    number: 102,
    mask: 0xffffffff,
    calls: {
      socket: [1, 359],
      bind: [2, 361],
      connect: [3, 362],
      listen: [4, 363],
      accept: [5],
      getsockname: [6, 367],
      getpeername: [7, 368],
      socketpair: [8, 360],
      send: [9],
      recv: [10],
      sendto: [11, 369],
      recvfrom: [12, 371],
      shutdown: [13, 373],
      setsockopt: [14, 366],
      getsockopt: [15, 365],
      sendmsg: [16, 370],
      recvmsg: [17, 372],
      accept4: [18, 364],
      recvmmsg: [19, 337],
      sendmmsg: [20, 345],
    },
  },
  {
    name: 'ipc',
    number: 117,
    mask: 0xffff,
    calls: {
      semop: [1],
      semget: [2, 393],
      semctl: [3, 394],
      semtimedop: [4],
      msgsnd: [11, 400],
      msgrcv: [12, 401],
      msgget: [13, 399],
      msgctl: [14, 402],
      shmat: [21, 397],
      shmdt: [22, 398],
      shmget: [23, 395],
      shmctl: [24, 396],
    },
  },
];

export interface PrologueRequest {
  readonly defaultAction: number;
  readonly architectures: readonly Architecture[];
  readonly rules: readonly FilterRule[];
  /** The number of a call, negative or undefined where the architecture has none. */
  readonly numberOf: (name: string, architecture: Architecture) => number | undefined;
}

/** An array of struct sock_filter that ends by falling into what is placed behind it; empty where nothing is to be done. */
export function prologue(request: PrologueRequest): Buffer {
  const { architectures, defaultAction } = request;
  const newer = (architecture: Architecture): Line[] => {
    if (architecture !== 'x86_64' && !architectures.includes(architecture)) return [];
    const highest = letsThrough(defaultAction) ? 0 : highestNumber(request, architecture);
    return highest === 0 ? [] : [ifGreater(highest, 'newer')];
  };
  const carried = architectures.includes('x86') ? carriers.map((carrier) => carrierLines(carrier, request)) : [];
  const x86 = [...carried.flatMap(({ test }) => test), ...newer('x86')];
  const x32 = newer('x32');
  const x86_64 = newer('x86_64');
  if ([...x86, ...x32, ...x86_64].length === 0) return Buffer.alloc(0);
  return assemble([
    load(data.arch),
    ifEqual(AUDIT_ARCH.X86_64, 'x86_64'),
    ifEqual(AUDIT_ARCH.I386, 'x86'),
    jump('filter'),
    label('x86_64'),
    load(data.nr),
    // Where the profile does not have x32, libseccomp's part kills it.
    ifAnyBit(X32_SYSCALL_BIT, 'x32'),
    ...x86_64,
    jump('filter'),
    label('x32'),
    ...x32,
    jump('filter'),
    label('x86'),
    load(data.nr),
    ...x86,
    jump('filter'),
    ...carried.flatMap(({ body }) => body),
    label('newer'),
    answer(SECCOMP_RET_ERRNO | ENOSYS),
    label('filter'),
  ]);
}

/** Among the numbers that the profile names. */
function highestNumber({ rules, numberOf }: PrologueRequest, architecture: Architecture): number {
  const own = (name: string): number =>
    Math.max(0, ...carriers.map(({ calls }) => (Object.hasOwn(calls, name) ? (calls[name]?.[1] ?? 0) : 0)));
  return rules.reduce((highest, { name }) => {
    return Math.max(highest, numberOf(name, architecture) ?? 0, architecture === 'x86' ? own(name) : 0);
  }, 0);
}

function carrierLines(carrier: Carrier, { rules, defaultAction }: PrologueRequest): { test: Line[]; body: Line[] } {
  const nothing = { test: [], body: [] };
  const named = rules.filter(({ name }) => name === carrier.name);
  if (named.some(({ action }) => rank(action) > rank(defaultAction))) return nothing;
  const always = named.find(isUnconditional);
  const answers = always === undefined ? carriedAnswers(carrier, rules, defaultAction) : [];
  if (always === undefined && answers.length === 0) return nothing;
  const at = (action: number): string => `${carrier.name} ${action}`;
  return {
    test: [ifEqual(carrier.number, carrier.name)],
    body: [
      label(carrier.name),
      ...(always === undefined
        ? [
            load(data.firstArgument),
            and(carrier.mask),
            ...answers.map(({ carried, action }) => ifEqual(carried, at(action))),
            jump('filter'),
            ...[...new Set(answers.map(({ action }) => action))].flatMap((action) => [
              label(at(action)),
              answer(action),
            ]),
          ]
        : [answer(always.action)]),
    ],
  };
}

/** What is said of calls whose arguments the profile wants to see. */
function carriedAnswers(
  { calls }: Carrier,
  rules: readonly FilterRule[],
  defaultAction: number,
): { carried: number; action: number }[] {
  return Object.entries(calls).flatMap(([name, [carried]]) => {
    const own = rules.filter((rule) => rule.name === name);
    if (own.length === 0 || own.some(isUnconditional)) return [];
    const action = own.reduce((worst, rule) => (rank(rule.action) < rank(worst) ? rule.action : worst), defaultAction);
    return [{ carried, action }];
  });
}

const isUnconditional = ({ cases }: FilterRule): boolean => cases.some((tests) => tests.length === 0);

/** Of two actions the kernel takes the one that is lower as a signed number: the stricter, seccomp(2). */
const rank = (action: number): number => action & 0xffff0000;

/** TRACE, LOG and ALLOW. */
const letsThrough = (action: number): boolean => rank(action) >= 0x7ff00000;

/** struct sock_filter: u16 code, u8 jt, u8 jf, u32 k. Jumps count the instructions between, and only lead forward. */
function assemble(lines: readonly Line[]): Buffer {
  const labels = new Map<string, number>();
  const instructions = lines.filter((line, i) => {
    if (!('label' in line)) return true;
    labels.set(line.label, lines.slice(0, i).filter((earlier) => !('label' in earlier)).length);
    return false;
  });
  const bytes = Buffer.alloc(instructions.length * 8);
  instructions.forEach((line, i) => {
    if ('label' in line) return;
    const distance = (to: string | undefined): number =>
      to === undefined ? 0 : (labels.get(to) ?? Number.NaN) - i - 1;
    const isJump = line.code === 0x05;
    bytes.writeUInt16LE(line.code, i * 8);
    bytes.writeUInt8(isJump ? 0 : distance(line.yes), i * 8 + 2);
    bytes.writeUInt8(isJump ? 0 : distance(line.no), i * 8 + 3);
    bytes.writeUInt32LE(isJump ? distance(line.yes) : line.k >>> 0, i * 8 + 4);
  });
  return bytes;
}
