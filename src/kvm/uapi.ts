import { io, ior, iow, iowr } from '../sys/ioctl.ts';

/*
 * What linux/kvm.h and, for x86, asm/kvm.h say: numbers, and where the members of structures lie, in bytes. All of it is
 * little endian. The meaning is in Documentation/virt/kvm/api.rst of the kernel.
 */

/** The only version there is; api.rst: "Applications should refuse to run if KVM_GET_API_VERSION returns a value other than 12." */
export const apiVersion = 12;

/** Bytes of structures. */
export const size = {
  kvm_segment: 24,
  kvm_dtable: 16,
  kvm_sregs: 312,
  kvm_regs: 144,
  kvm_userspace_memory_region: 32,
  /** Without its entries. */
  kvm_cpuid2: 8,
  kvm_cpuid_entry2: 40,
} as const;

const kvmio = 0xae;

export const requests = {
  KVM_GET_API_VERSION: io(kvmio, 0x00),
  KVM_CREATE_VM: io(kvmio, 0x01),
  KVM_CHECK_EXTENSION: io(kvmio, 0x03),
  KVM_GET_VCPU_MMAP_SIZE: io(kvmio, 0x04),
  KVM_GET_SUPPORTED_CPUID: iowr(kvmio, 0x05, size.kvm_cpuid2),
  KVM_CREATE_VCPU: io(kvmio, 0x41),
  KVM_SET_USER_MEMORY_REGION: iow(kvmio, 0x46, size.kvm_userspace_memory_region),
  KVM_SET_TSS_ADDR: io(kvmio, 0x47),
  KVM_RUN: io(kvmio, 0x80),
  KVM_GET_REGS: ior(kvmio, 0x81, size.kvm_regs),
  KVM_SET_REGS: iow(kvmio, 0x82, size.kvm_regs),
  KVM_GET_SREGS: ior(kvmio, 0x83, size.kvm_sregs),
  KVM_SET_SREGS: iow(kvmio, 0x84, size.kvm_sregs),
  KVM_SET_CPUID2: iow(kvmio, 0x90, size.kvm_cpuid2),
} as const;

export type RequestName = keyof typeof requests;

/** Arguments of KVM_CHECK_EXTENSION without which QEMU does not start on KVM (its kvm_required_capabilities, general and x86). */
export const requiredCapabilities = {
  KVM_CAP_USER_MEMORY: 3,
  KVM_CAP_SET_TSS_ADDR: 4,
  KVM_CAP_EXT_CPUID: 7,
  KVM_CAP_MP_STATE: 14,
  KVM_CAP_DESTROY_MEMORY_REGION_WORKS: 21,
  KVM_CAP_JOIN_MEMORY_REGIONS_WORKS: 30,
} as const;

/** Those that answer with a number that says something. */
export const countingCapabilities = {
  KVM_CAP_NR_VCPUS: 9,
  KVM_CAP_NR_MEMSLOTS: 10,
  KVM_CAP_MAX_VCPUS: 66,
} as const;

/** struct kvm_userspace_memory_region */
export const memoryRegion = { slot: 0, flags: 4, guestAddress: 8, bytes: 16, hostAddress: 24 } as const;

/** struct kvm_cpuid2 and, from `entries` on, struct kvm_cpuid_entry2 */
export const cpuid = {
  count: 0,
  entries: 8,
  entry: { function: 0, index: 4, flags: 8, eax: 12, ebx: 16, ecx: 20, edx: 24 },
} as const;

/** struct kvm_run; the members from 32 on are a union, one structure for each exit reason. */
export const run = {
  exitReason: 8,
  io: { direction: 32, bytes: 33, port: 34, count: 36, dataOffset: 40 },
  mmio: { address: 32, length: 48, isWrite: 52 },
  failEntry: { reason: 32 },
  internal: { suberror: 32 },
  unknown: { hardwareReason: 32 },
} as const;

/** `exit_reason` of struct kvm_run; what is not in this list no guest of ours can cause. */
export const exitReasons = {
  0: 'KVM_EXIT_UNKNOWN',
  1: 'KVM_EXIT_EXCEPTION',
  2: 'KVM_EXIT_IO',
  3: 'KVM_EXIT_HYPERCALL',
  4: 'KVM_EXIT_DEBUG',
  5: 'KVM_EXIT_HLT',
  6: 'KVM_EXIT_MMIO',
  7: 'KVM_EXIT_IRQ_WINDOW_OPEN',
  8: 'KVM_EXIT_SHUTDOWN',
  9: 'KVM_EXIT_FAIL_ENTRY',
  10: 'KVM_EXIT_INTR',
  16: 'KVM_EXIT_NMI',
  17: 'KVM_EXIT_INTERNAL_ERROR',
  24: 'KVM_EXIT_SYSTEM_EVENT',
} as const;

/** `suberror` of KVM_EXIT_INTERNAL_ERROR */
export const internalErrors = {
  1: 'KVM_INTERNAL_ERROR_EMULATION',
  2: 'KVM_INTERNAL_ERROR_SIMUL_EX',
  3: 'KVM_INTERNAL_ERROR_DELIVERY_EV',
  4: 'KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON',
} as const;

/** struct kvm_regs: 64 bits each, in this order. */
const generalRegisters = [
  ...['rax', 'rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rsp', 'rbp'],
  ...['r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15', 'rip', 'rflags'],
] as const;

export const registerOffset = (name: 'rax' | 'rsp' | 'r15' | 'rip' | 'rflags'): number =>
  8 * generalRegisters.indexOf(name);

/** struct kvm_sregs: eight of struct kvm_segment, then two of struct kvm_dtable, then these. */
export const segments = ['cs', 'ds', 'es', 'fs', 'gs', 'ss', 'tr', 'ldt'] as const;
export const sregs = { gdt: 192, idt: 208, cr0: 224, cr3: 240, cr4: 248, efer: 264 } as const;

/** struct kvm_segment */
export const segment = {
  base: 0,
  limit: 8,
  selector: 12,
  type: 14,
  present: 15,
  dpl: 16,
  db: 17,
  s: 18,
  l: 19,
  g: 20,
  unusable: 22,
} as const;
