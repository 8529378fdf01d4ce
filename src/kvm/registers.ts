import { layout, virtual } from './guests.ts';
import { registerOffset, segment, segments, size, sregs } from './uapi.ts';

/* What the registers of a virtual CPU are before a guest's first instruction. Pure. */

type SegmentName = (typeof segments)[number];

interface Segment {
  readonly base: bigint;
  readonly limit: number;
  readonly selector: number;
  /** Intel SDM volume 3, table 3-1 and 3-2. */
  readonly type: number;
  readonly present: 0 | 1;
  readonly dpl: number;
  /** 32-bit code or stack. */
  readonly db: 0 | 1;
  /** Code or data, and not of the system. */
  readonly s: 0 | 1;
  /** 64-bit code. */
  readonly l: 0 | 1;
  /** The limit counts pages. */
  readonly g: 0 | 1;
}

const cr0 = { PE: 1n, ET: 1n << 4n, NE: 1n << 5n, WP: 1n << 16n, PG: 1n << 31n };
const cr4 = { PAE: 1n << 5n };
const efer = { LME: 1n << 8n, LMA: 1n << 10n };

const flat = { base: 0n, limit: 0xffff_ffff, present: 1, dpl: 0, s: 1, g: 1 } as const;
/** A descriptor table is not needed: what it would say is in the CPU already, and nothing loads a segment. */
const longSegments: Readonly<Record<Exclude<SegmentName, 'ldt'>, Segment>> = {
  cs: { ...flat, selector: 8, type: 11, db: 0, l: 1 },
  ds: { ...flat, selector: 16, type: 3, db: 1, l: 0 },
  es: { ...flat, selector: 16, type: 3, db: 1, l: 0 },
  fs: { ...flat, selector: 16, type: 3, db: 1, l: 0 },
  gs: { ...flat, selector: 16, type: 3, db: 1, l: 0 },
  ss: { ...flat, selector: 16, type: 3, db: 1, l: 0 },
  // VT-x enters 64-bit mode only with a busy 64-bit TSS (Intel SDM volume 3, 27.3.1.2).
  tr: { base: 0n, limit: 0x67, selector: 24, type: 11, present: 1, dpl: 0, db: 0, s: 0, l: 0, g: 0 },
};

/** struct kvm_sregs of a CPU after reset, made ready for code in real mode at `layout.realCode`. */
export function realModeSregs(afterReset: Buffer): Buffer {
  const registers = Buffer.from(afterReset);
  // After reset, code is taken from below 4 GiB, where a firmware would be.
  registers.writeBigUInt64LE(0n, offsetOf('cs') + segment.base);
  registers.writeUInt16LE(0, offsetOf('cs') + segment.selector);
  return registers;
}

/** The same for code in 64-bit mode with the page tables at `layout.tables`. */
export function longModeSregs(afterReset: Buffer): Buffer {
  const registers = Buffer.from(afterReset);
  for (const name of segments) if (name !== 'ldt') writeSegment(registers, offsetOf(name), longSegments[name]);
  registers.writeBigUInt64LE(cr0.PE | cr0.ET | cr0.NE | cr0.WP | cr0.PG, sregs.cr0);
  registers.writeBigUInt64LE(BigInt(layout.tables), sregs.cr3);
  registers.writeBigUInt64LE(cr4.PAE, sregs.cr4);
  registers.writeBigUInt64LE(efer.LME | efer.LMA, sregs.efer);
  return registers;
}

/** struct kvm_regs for the first instruction; what a guest does not set itself is 0. */
export function firstRegs(mode: 'real-mode' | 'long-mode'): Buffer {
  const registers = Buffer.alloc(size.kvm_regs);
  registers.writeBigUInt64LE(mode === 'real-mode' ? BigInt(layout.realCode) : virtual.code, registerOffset('rip'));
  const alwaysSet = 2n; // Intel SDM volume 1, 3.4.3
  registers.writeBigUInt64LE(alwaysSet, registerOffset('rflags'));
  return registers;
}

const offsetOf = (name: SegmentName): number => size.kvm_segment * segments.indexOf(name);

function writeSegment(registers: Buffer, at: number, value: Segment): void {
  registers.fill(0, at, at + size.kvm_segment);
  registers.writeBigUInt64LE(value.base, at + segment.base);
  registers.writeUInt32LE(value.limit, at + segment.limit);
  registers.writeUInt16LE(value.selector, at + segment.selector);
  for (const name of ['type', 'present', 'dpl', 'db', 's', 'l', 'g'] as const) {
    registers.writeUInt8(value[name], at + segment[name]);
  }
}
