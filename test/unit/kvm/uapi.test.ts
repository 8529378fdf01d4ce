import { expect, test } from 'vitest';
import {
  cpuid,
  memoryRegion,
  registerOffset,
  requests,
  run,
  segment,
  segments,
  size,
  sregs,
} from '../../../src/kvm/uapi.ts';

/* What a C compiler says of linux/kvm.h (x86-64, Linux 6.1): sizeof, offsetof, and the macros. */

test('requests have the numbers of linux/kvm.h', () => {
  expect(requests).toEqual({
    KVM_GET_API_VERSION: 0xae00,
    KVM_CREATE_VM: 0xae01,
    KVM_CHECK_EXTENSION: 0xae03,
    KVM_GET_VCPU_MMAP_SIZE: 0xae04,
    KVM_GET_SUPPORTED_CPUID: 0xc008ae05,
    KVM_CREATE_VCPU: 0xae41,
    KVM_SET_USER_MEMORY_REGION: 0x4020ae46,
    KVM_SET_TSS_ADDR: 0xae47,
    KVM_RUN: 0xae80,
    KVM_GET_REGS: 0x8090ae81,
    KVM_SET_REGS: 0x4090ae82,
    KVM_GET_SREGS: 0x8138ae83,
    KVM_SET_SREGS: 0x4138ae84,
    KVM_SET_CPUID2: 0x4008ae90,
  });
});

test('structures have the sizes and members of linux/kvm.h', () => {
  expect(size).toEqual({
    kvm_segment: 24,
    kvm_dtable: 16,
    kvm_sregs: 312,
    kvm_regs: 144,
    kvm_userspace_memory_region: 32,
    kvm_cpuid2: 8,
    kvm_cpuid_entry2: 40,
  });
  expect(memoryRegion).toEqual({ slot: 0, flags: 4, guestAddress: 8, bytes: 16, hostAddress: 24 });
  expect(cpuid.entry).toEqual({ function: 0, index: 4, flags: 8, eax: 12, ebx: 16, ecx: 20, edx: 24 });
  expect(cpuid.entries).toBe(size.kvm_cpuid2);
  expect(run).toEqual({
    exitReason: 8,
    io: { direction: 32, bytes: 33, port: 34, count: 36, dataOffset: 40 },
    mmio: { address: 32, length: 48, isWrite: 52 },
    failEntry: { reason: 32 },
    internal: { suberror: 32 },
    unknown: { hardwareReason: 32 },
  });
  expect((['rax', 'rsp', 'r15', 'rip', 'rflags'] as const).map(registerOffset)).toEqual([0, 48, 120, 128, 136]);
  expect(segments.map((_, index) => size.kvm_segment * index)).toEqual([0, 24, 48, 72, 96, 120, 144, 168]);
  expect([segments.indexOf('ss'), segments.indexOf('tr')]).toEqual([120 / 24, 144 / 24]);
  expect(sregs).toEqual({ gdt: 192, idt: 208, cr0: 224, cr3: 240, cr4: 248, efer: 264 });
  expect(segment).toEqual({
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
  });
});
