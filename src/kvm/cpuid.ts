import { ownLeaf, ownSignature } from './guests.ts';
import { cpuid, size } from './uapi.ts';

/* struct kvm_cpuid2: what KVM offers of the CPU, and what a virtual one is told. */

/** The kernel's KVM_MAX_CPUID_ENTRIES. */
const most = 256;

/** One to be filled by the kernel, with room for one more entry than it may fill. */
export function emptyCpuid(): Buffer {
  const table = Buffer.alloc(entryAt(most + 1));
  table.writeUInt32LE(most, cpuid.count);
  return table;
}

/** Such as `GenuineIntel`: twelve letters in leaf 0. */
export function cpuVendor(table: Buffer): string {
  const entry = entryAt(indexOf(table, 0));
  const { ebx, edx, ecx } = cpuid.entry;
  return [ebx, edx, ecx].map((at) => table.toString('latin1', entry + at, entry + at + 4)).join('');
}

/** Makes leaf `ownLeaf` say `ownSignature`, whether it was there or not. @returns how many entries there are now */
export function addOwnLeaf(table: Buffer): number {
  const index = indexOf(table, ownLeaf);
  const entry = entryAt(index);
  const { eax, ebx, ecx, edx } = cpuid.entry;
  table.fill(0, entry, entryAt(index + 1));
  table.writeUInt32LE(ownLeaf, entry + cpuid.entry.function);
  table.writeUInt32LE(ownLeaf, entry + eax); // the highest of the hypervisor's leaves
  for (const [part, at] of [ebx, ecx, edx].entries())
    table.write(ownSignature.slice(4 * part, 4 * part + 4), entry + at, 'latin1');
  const count = Math.max(table.readUInt32LE(cpuid.count), index + 1);
  table.writeUInt32LE(count, cpuid.count);
  return count;
}

const entryAt = (index: number): number => cpuid.entries + size.kvm_cpuid_entry2 * index;

/** Of a leaf's first entry; behind the last one when there is none. */
function indexOf(table: Buffer, leaf: number): number {
  const count = table.readUInt32LE(cpuid.count);
  for (let index = 0; index < count; index++)
    if (table.readUInt32LE(entryAt(index) + cpuid.entry.function) === leaf) return index;
  return count;
}
