import { allAccess, type DeviceRule } from './devices.ts';

/**
 * In cgroup v2 a small eBPF program decides about each use of a device (kernel: admin-guide/cgroup-v2.rst, "Device
 * controller"; linux/bpf.h, BPF_PROG_TYPE_CGROUP_DEVICE). Its context is {u32 access << 16 | type, major, minor}; it
 * returns 1 to allow and 0 to deny.
 */

/** One instruction (kernel: bpf/standardization/instruction-set.rst): 8 bytes. */
export interface Instruction {
  readonly code: number;
  readonly dst?: number;
  readonly src?: number;
  /** A jump's distance in instructions, counted from the next one; a load's offset. */
  readonly offset?: number;
  readonly value?: number;
}

/** Instruction codes: class | source or size | operation. */
export const op = {
  /** dst = *(u32 *)(src + offset) */
  load32: 0x61,
  /** The upper half of dst becomes 0 with each 32-bit operation. */
  move32: 0xbc,
  set: 0xb7,
  and32: 0x54,
  shiftRight32: 0x74,
  jump: 0x05,
  jumpIfNot: 0x55,
  jumpIfAnyBit: 0x45,
  exit: 0x95,
} as const;

const r = { result: 0, context: 1, type: 2, access: 3, major: 4, minor: 5 } as const;
const types = { b: 1, c: 2 } as const;

/**
 * The program for these rules. It goes through them from the last to the first, because the last one that matches
 * decides; `access` holds the kinds of access that are still open. What nothing decides is denied.
 */
export function deviceFilter(rules: readonly DeviceRule[]): Instruction[] {
  const program: Instruction[] = [
    { code: op.load32, dst: r.type, src: r.context, offset: 0 },
    { code: op.move32, dst: r.access, src: r.type },
    { code: op.shiftRight32, dst: r.access, value: 16 },
    { code: op.and32, dst: r.type, value: 0xffff },
    { code: op.load32, dst: r.major, src: r.context, offset: 4 },
    { code: op.load32, dst: r.minor, src: r.context, offset: 8 },
  ];
  for (const rule of rules.toReversed()) {
    const tests = matching(rule);
    if (tests === undefined || rule.access === 0) continue;
    const verdict = decide(rule);
    const length = tests.length + verdict.length;
    tests.forEach((test, i) => {
      program.push({ ...test, offset: length - i - 1 });
    });
    program.push(...verdict);
    // The verifier accepts nothing that is never reached.
    if (tests.length === 0 && rule.access === allAccess) return program;
  }
  return [...program, ...answer(0)];
}

/** Jumps past the rule when it does not match; undefined when no device can match. */
function matching({ type, major, minor }: DeviceRule): Instruction[] | undefined {
  const tests: Instruction[] = [];
  if (type !== undefined) tests.push({ code: op.jumpIfNot, dst: r.type, value: types[type] });
  for (const [register, number] of [
    [r.major, major],
    [r.minor, minor],
  ] as const) {
    if (number === undefined) continue;
    // The value of an instruction is a signed 32-bit number; a device's numbers have 12 and 20 bits.
    if (number < 0 || number > 0x7fff_ffff) return undefined;
    tests.push({ code: op.jumpIfNot, dst: register, value: number });
  }
  return tests;
}

function decide({ allow, access }: DeviceRule): Instruction[] {
  if (access === allAccess) return answer(allow ? 1 : 0);
  const verdict = answer(allow ? 1 : 0);
  return allow
    ? [
        { code: op.and32, dst: r.access, value: allAccess & ~access },
        { code: op.jumpIfNot, dst: r.access, value: 0, offset: verdict.length },
        ...verdict,
      ]
    : [
        { code: op.jumpIfAnyBit, dst: r.access, value: access, offset: 1 },
        { code: op.jump, offset: verdict.length },
        ...verdict,
      ];
}

const answer = (value: 0 | 1): Instruction[] => [{ code: op.set, dst: r.result, value }, { code: op.exit }];

export function encodeFilter(program: readonly Instruction[]): Buffer {
  const bytes = Buffer.alloc(program.length * 8);
  program.forEach(({ code, dst = 0, src = 0, offset = 0, value = 0 }, i) => {
    bytes.writeUInt8(code, i * 8);
    bytes.writeUInt8((src << 4) | dst, i * 8 + 1);
    bytes.writeInt16LE(offset, i * 8 + 2);
    bytes.writeInt32LE(value, i * 8 + 4);
  });
  return bytes;
}
