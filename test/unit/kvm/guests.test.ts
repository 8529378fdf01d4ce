import { describe, expect, test } from 'vitest';
import { addOwnLeaf, cpuVendor, emptyCpuid } from '../../../src/kvm/cpuid.ts';
import { exitText, readExit } from '../../../src/kvm/exit.ts';
import { guests, layout, ownLeaf, virtual, writePageTables } from '../../../src/kvm/guests.ts';
import { firstRegs, longModeSregs, realModeSregs } from '../../../src/kvm/registers.ts';
import { cpuid, registerOffset, size } from '../../../src/kvm/uapi.ts';

describe('guests', () => {
  test('compute what cannot come out by chance', () => {
    expect(guests.map(({ step, writes }) => [step, ...writes.map(({ value }) => value.toString(16))])).toEqual([
      ['real-mode', '13ba'],
      ['long-mode', 'b0549422', '26613a05', '20767374'],
    ]);
  });

  test('have page tables in which no page lies where it seems to, and one has two addresses', () => {
    const memory = Buffer.alloc(layout.bytes);
    writePageTables(memory);
    /** As the CPU does it. */
    const walk = (address: bigint): { page: bigint; writable: boolean } => {
      let table = BigInt(layout.tables);
      let writable = true;
      for (const shift of [39n, 30n, 21n, 12n]) {
        const entry = memory.readBigUInt64LE(Number(table + 8n * ((address >> shift) & 511n)));
        expect(entry & 1n, `present at ${shift}`).toBe(1n);
        writable &&= (entry & 2n) !== 0n;
        table = entry & ~0xfffn;
      }
      return { page: table, writable };
    };
    expect(walk(virtual.code)).toEqual({ page: BigInt(layout.longCode), writable: false });
    expect(walk(virtual.dataLow)).toEqual({ page: BigInt(layout.longData), writable: true });
    expect(walk(virtual.dataHigh)).toEqual({ page: BigInt(layout.longData), writable: true });
    expect(memory.subarray(0, layout.tables).every((byte) => byte === 0)).toBe(true);
  });

  test('begin in real mode at the code, with the rest as after reset', () => {
    const afterReset = Buffer.alloc(size.kvm_sregs, 0xaa);
    const registers = realModeSregs(afterReset);
    expect(registers.readBigUInt64LE(0)).toBe(0n); // cs.base
    expect(registers.readUInt16LE(12)).toBe(0); // cs.selector
    expect(registers.subarray(14)).toEqual(afterReset.subarray(14));
    expect(firstRegs('real-mode').readBigUInt64LE(registerOffset('rip'))).toBe(BigInt(layout.realCode));
  });

  test('begin in 64-bit mode with paging: cr0, cr3, cr4, efer and the long code segment', () => {
    const registers = longModeSregs(Buffer.alloc(size.kvm_sregs));
    expect(registers.readBigUInt64LE(224)).toBe(0x8001_0031n);
    expect(registers.readBigUInt64LE(240)).toBe(BigInt(layout.tables));
    expect(registers.readBigUInt64LE(248)).toBe(0x20n);
    expect(registers.readBigUInt64LE(264)).toBe(0x500n);
    expect(registers.subarray(14, 21).toString('hex')).toBe('0b010000010101'); // cs: type, present, dpl, db, s, l, g
    expect(firstRegs('long-mode').readBigUInt64LE(registerOffset('rip'))).toBe(virtual.code);
    expect(firstRegs('long-mode').readBigUInt64LE(registerOffset('rflags'))).toBe(2n);
  });
});

describe('CPUID', () => {
  const withLeaves = (...leaves: [leaf: number, ebx?: string, edx?: string, ecx?: string][]): Buffer => {
    const table = emptyCpuid();
    table.writeUInt32LE(leaves.length, cpuid.count);
    leaves.forEach(([leaf, ebx = '', edx = '', ecx = ''], index) => {
      const at = cpuid.entries + index * size.kvm_cpuid_entry2;
      table.writeUInt32LE(leaf, at);
      table.write(ebx, at + cpuid.entry.ebx);
      table.write(ecx, at + cpuid.entry.ecx);
      table.write(edx, at + cpuid.entry.edx);
    });
    return table;
  };
  const intel = [0, 'Genu', 'ineI', 'ntel'] as [number, string, string, string];

  test('gets our leaf in place of the hypervisor’s, or added', () => {
    const replaced = withLeaves(intel, [ownLeaf, 'KVMK', 'M\0\0\0', 'VMKV'], [1]);
    expect(addOwnLeaf(replaced)).toBe(3);
    expect(replaced.toString('latin1', 8 + 40 + 16, 8 + 40 + 28)).toBe('tsv check   ');
    expect(replaced.readUInt32LE(8 + 80)).toBe(1);
    const added = withLeaves(intel, [1]);
    expect(addOwnLeaf(added)).toBe(3);
    expect(added.readUInt32LE(cpuid.count)).toBe(3);
    expect(added.readUInt32LE(8 + 80)).toBe(ownLeaf);
    expect(cpuVendor(added)).toBe('GenuineIntel');
  });
});

describe('an exit', () => {
  const area = (reason: number, fill: (bytes: Buffer) => void = () => {}): Buffer => {
    const bytes = Buffer.alloc(4096);
    bytes.writeUInt32LE(reason, 8);
    fill(bytes);
    return bytes;
  };
  const io = (direction: number, bytes: number, offset: bigint, count = 1): Buffer =>
    area(2, (all) => {
      all.set([direction, bytes, 0x2a, 0], 32);
      all.writeUInt32LE(count, 36);
      all.writeBigUInt64LE(offset, 40);
      all.writeUInt32LE(0xdead_beef, 2048);
    });

  test('by hlt and by out is read', () => {
    expect(readExit(area(5))).toEqual({ reason: 'halt' });
    expect(readExit(io(1, 4, 2048n))).toEqual({ reason: 'out', port: 0x2a, bytes: 4, value: 0xdead_beef });
    expect(readExit(io(1, 2, 2048n))).toMatchObject({ bytes: 2, value: 0xbeef });
  });

  test.each([
    ['an in', io(0, 4, 2048n)],
    ['a string of outs', io(1, 4, 2048n, 2)],
    ['a size that is none', io(1, 3, 2048n)],
    ['data that is not there', io(1, 4, 1n << 40n)],
  ])('by %s is told as what it is', (_, bytes) => {
    expect(exitText(readExit(bytes))).toBe('KVM_EXIT_IO: not one write of 1, 2 or 4 bytes, at port 0x2a');
  });

  test.each([
    [area(8), /^KVM_EXIT_SHUTDOWN: .*triple fault/],
    [area(17, (bytes) => bytes.writeUInt32LE(1, 32)), /^KVM_EXIT_INTERNAL_ERROR: KVM_INTERNAL_ERROR_EMULATION$/],
    [area(17, (bytes) => bytes.writeUInt32LE(77, 32)), /^KVM_EXIT_INTERNAL_ERROR: suberror 77$/],
    [area(9, (bytes) => bytes.writeBigUInt64LE(0x80000021n, 32)), /^KVM_EXIT_FAIL_ENTRY: .*0x80000021/],
    [area(6, (bytes) => bytes.writeBigUInt64LE(0xfee00000n, 32)), /^KVM_EXIT_MMIO: the guest reads at 0xfee00000/],
    [area(0, (bytes) => bytes.writeBigUInt64LE(5n, 32)), /^KVM_EXIT_UNKNOWN: hardware exit reason 0x5$/],
    [area(99), /^exit reason 99$/],
  ])('that a good guest does not cause is told in words', (bytes, text) => {
    expect(exitText(readExit(bytes))).toMatch(text);
  });
});
