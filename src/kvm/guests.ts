/*
 * Two programs for a virtual CPU without firmware, each a few instructions long. They compute, use memory, write what came
 * out to a port, and halt: nothing of that happens by itself.
 */

/** Where the guests write to; there is no device: each write is an exit to the check. */
export const resultPort = 0x2a;

/** A leaf of CPUID that is the hypervisor's to fill (api.rst, KVM_GET_SUPPORTED_CPUID), and what the check puts there. */
export const ownLeaf = 0x4000_0000;
export const ownSignature = 'tsv check   ';

/** Guest-physical. One page each, but for the tables. */
export const layout = {
  bytes: 1 << 20,
  realCode: 0x1000,
  realData: 0x2000,
  longCode: 0x3000,
  longData: 0x9000,
  /** Of seven pages: the first is the PML4. */
  tables: 0x10000,
} as const;

/** Virtual, of the guest in 64-bit mode. None is where its page lies; two of them lead to one page. */
export const virtual = {
  code: 0x40_0000n,
  dataLow: 0x40_1000n,
  dataHigh: 0xffff_8880_0000_0000n,
} as const;

export interface Guest {
  readonly step: 'real-mode' | 'long-mode';
  /** Machine code, hexadecimal. */
  readonly code: string;
  /** What it writes to the port, in this order, before it halts. */
  readonly writes: readonly { readonly bytes: 1 | 2 | 4; readonly value: number }[];
  /** What is in its memory then: guest-physical address, content in hexadecimal. */
  readonly leaves: { readonly address: number; readonly content: string };
}

/** Adds up the numbers from 1 to 100, keeps the sum in memory and writes what it finds there. */
const sum = 5050;
const realMode: Guest = {
  step: 'real-mode',
  code: [
    '31 c0', //             xor ax, ax
    'b9 64 00', //          mov cx, 100
    '01 c8', //       next: add ax, cx
    'e2 fc', //             loop next
    'a3 00 20', //          mov [realData], ax
    '8b 1e 00 20', //       mov bx, [realData]
    '89 d8', //             mov ax, bx
    'e7 2a', //             out resultPort, ax
    'f4', //                hlt
  ].join(' '),
  writes: [{ bytes: 2, value: sum }],
  leaves: { address: layout.realData, content: hex(littleEndian(2, sum)) },
};

const factor = 0x1234_5678_9abc_def1n;
const otherFactor = 0xfedc_ba98_7654_3211n;
const product = factor * otherFactor;
const low = product & 0xffff_ffff_ffff_ffffn;
const mixed = low ^ (product >> 64n);

/**
 * Multiplies two numbers of 64 bits, writes the lower half of the product through one virtual address and reads it through
 * another one, and mixes it with the upper half; then asks CPUID for what only KVM_SET_CPUID2 can have told it.
 */
const longMode: Guest = {
  step: 'long-mode',
  code: [
    `48 b8 ${hex(littleEndian(8, factor))}`, //            mov rax, factor
    `48 bb ${hex(littleEndian(8, otherFactor))}`, //       mov rbx, otherFactor
    '48 f7 e3', //                                         mul rbx
    '49 89 d0', //                                         mov r8, rdx
    `48 bf ${hex(littleEndian(8, virtual.dataHigh))}`, //  mov rdi, dataHigh
    '48 89 07', //                                         mov [rdi], rax
    `be ${hex(littleEndian(4, virtual.dataLow))}`, //      mov esi, dataLow
    '4c 8b 0e', //                                         mov r9, [rsi]
    '4d 31 c1', //                                         xor r9, r8
    '4c 89 c8', //                                         mov rax, r9
    'e7 2a', //                                            out resultPort, eax
    '48 c1 e8 20', //                                      shr rax, 32
    'e7 2a', //                                            out resultPort, eax
    `b8 ${hex(littleEndian(4, ownLeaf))}`, //              mov eax, ownLeaf
    '31 c9', //                                            xor ecx, ecx
    '0f a2', //                                            cpuid
    '89 d8', //                                            mov eax, ebx
    'e7 2a', //                                            out resultPort, eax
    'f4', //                                               hlt
  ].join(' '),
  writes: [
    { bytes: 4, value: Number(mixed & 0xffff_ffffn) },
    { bytes: 4, value: Number(mixed >> 32n) },
    { bytes: 4, value: Buffer.from(ownSignature, 'latin1').readUInt32LE(0) },
  ],
  leaves: { address: layout.longData, content: hex(littleEndian(8, low)) },
};

export const guests: readonly Guest[] = [realMode, longMode];

const present = 1n;
const writable = 2n;

/**
 * Page tables for {@link virtual} (Intel SDM volume 3, 5.5: four levels of 512 entries), at `layout.tables` of a guest's
 * memory. The code's page cannot be written.
 */
export function writePageTables(memory: Buffer): void {
  let used = 0;
  const newTable = (): number => layout.tables + 0x1000 * used++;
  const entryOf = (table: number, address: bigint, level: number): number =>
    table + 8 * Number((address >> BigInt(12 + 9 * level)) & 511n);
  const root = newTable();
  const map = (address: bigint, page: number, flags: bigint): void => {
    let table = root;
    for (const level of [3, 2, 1]) {
      const at = entryOf(table, address, level);
      const next = memory.readBigUInt64LE(at) & ~0xfffn;
      if (next !== 0n) table = Number(next);
      else {
        table = newTable();
        memory.writeBigUInt64LE(BigInt(table) | present | writable, at);
      }
    }
    memory.writeBigUInt64LE(BigInt(page) | flags, entryOf(table, address, 0));
  };
  map(virtual.code, layout.longCode, present);
  map(virtual.dataLow, layout.longData, present | writable);
  map(virtual.dataHigh, layout.longData, present | writable);
}

/** A whole number as `bytes` bytes. */
function littleEndian(bytes: number, value: number | bigint): Buffer {
  const all = Buffer.alloc(8);
  all.writeBigUInt64LE(BigInt(value));
  return all.subarray(0, bytes);
}

function hex(bytes: Buffer): string {
  return bytes.toString('hex');
}
