import { compileSeccomp } from '../../../src/oci/seccomp.ts';
import type { OciSeccomp, OciSyscallRule } from '../../../src/oci/spec.ts';

/** What a filter sees of a system call: struct seccomp_data, seccomp(2). */
export interface Call {
  readonly arch: number;
  readonly nr: number;
  readonly args?: readonly (number | bigint)[];
}

/** linux/audit.h */
export const X86_64 = 0xc000003e;
export const I386 = 0x40000003;

/**
 * Runs a filter as the kernel would: classic BPF (linux/filter.h) over struct seccomp_data. Returns SECCOMP_RET_*.
 * Throws at whatever the kernel's checker would refuse on the way: unknown instructions, jumps out of the filter.
 */
export function evaluate(filter: Buffer, { arch, nr, args = [] }: Call): number {
  const data = Buffer.alloc(64);
  data.writeUInt32LE(nr >>> 0, 0);
  data.writeUInt32LE(arch, 4);
  args.forEach((arg, i) => {
    data.writeBigUInt64LE(BigInt.asUintN(64, BigInt(arg)), 16 + 8 * i);
  });
  let accumulator = 0;
  for (let at = 0; ; at++) {
    if (at * 8 >= filter.length) throw new Error(`ran out of the filter at ${at}`);
    const code = filter.readUInt16LE(at * 8);
    const yes = filter.readUInt8(at * 8 + 2);
    const no = filter.readUInt8(at * 8 + 3);
    const k = filter.readUInt32LE(at * 8 + 4);
    if (code === 0x20) accumulator = data.readUInt32LE(k);
    else if (code === 0x54) accumulator = (accumulator & k) >>> 0;
    else if (code === 0x05) at += k;
    else if (code === 0x15) at += accumulator === k ? yes : no;
    else if (code === 0x25) at += accumulator > k ? yes : no;
    else if (code === 0x35) at += accumulator >= k ? yes : no;
    else if (code === 0x45) at += (accumulator & k) !== 0 ? yes : no;
    else if (code === 0x06) return k;
    else throw new Error(`instruction 0x${code.toString(16)} at ${at}`);
  }
}

/** `ALLOW`, `ERRNO 1`, … */
export function actionName(action: number): string {
  const names = new Map([
    [0x80000000, 'KILL_PROCESS'],
    [0x00000000, 'KILL_THREAD'],
    [0x00030000, 'TRAP'],
    [0x00050000, 'ERRNO'],
    [0x7ff00000, 'TRACE'],
    [0x7ffc0000, 'LOG'],
    [0x7fff0000, 'ALLOW'],
  ]);
  const name = names.get((action & 0xffff0000) >>> 0) ?? `0x${action.toString(16)}`;
  return ['ERRNO', 'TRACE'].includes(name) ? `${name} ${action & 0xffff}` : name;
}

/** Without names it is about getpid. */
export type Rule = Omit<OciSyscallRule, 'names'> & { names?: readonly string[] };

/** One that allows, unless `rest` says otherwise. */
export const profile = (rules: readonly Rule[], rest: Partial<OciSeccomp> = {}): OciSeccomp => ({
  defaultAction: 'SCMP_ACT_ALLOW',
  syscalls: rules.map((rule) => ({ names: ['getpid'], ...rule })),
  ...rest,
});

/** What the kernel would do with a call. */
export const answer = (
  seccomp: OciSeccomp,
  nr: number,
  args: readonly (number | bigint)[] = [],
  arch = X86_64,
): string => actionName(evaluate(compileSeccomp(seccomp).filter, { arch, nr, args }));

export const arg = (index: number, op: string, value: number, valueTwo?: number) => ({
  index,
  op: `SCMP_CMP_${op}`,
  value,
  ...(valueTwo === undefined ? {} : { valueTwo }),
});
