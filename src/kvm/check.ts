import { PR } from '../sys/flags.ts';
import { allocate, type Memory, trySyscall, withBytes } from '../sys/libc.ts';
import { Calls, StepFailed } from './calls.ts';
import { addOwnLeaf, cpuVendor, emptyCpuid } from './cpuid.ts';
import { exitText, readExit } from './exit.ts';
import { type Guest, layout, resultPort, writePageTables } from './guests.ts';
import type { CheckJob, CheckMessage, StepId } from './protocol.ts';
import { firstRegs, longModeSregs, realModeSregs } from './registers.ts';
import { apiVersion, countingCapabilities, memoryRegion, registerOffset, requiredCapabilities, size } from './uapi.ts';

/**
 * Uses KVM as QEMU does, step by step, up to guests that run, and tells of each step before and after it; the first one that
 * fails is the last. It blocks in KVM_RUN, and leaves open what it opens: it belongs into a process of its own, which ends.
 */
export function checkKvm(job: CheckJob, tell: (message: CheckMessage) => void): void {
  // Should the parent be killed meanwhile, nobody else would end a guest that hangs.
  const SIGKILL = 9;
  trySyscall('prctl', PR.SET_PDEATHSIG, SIGKILL);
  const calls = new Calls();
  const step = <T>(id: StepId, work: () => readonly [T, string]): T => {
    tell({ begin: id });
    const began = performance.now();
    const over = () => ({ step: id, ms: performance.now() - began, calls: calls.take() });
    try {
      const [value, detail] = work();
      tell({ end: { ...over(), detail } });
      return value;
    } catch (error) {
      if (error instanceof StepFailed) tell({ end: { ...over(), detail: '', failure: error.failure } });
      throw error;
    }
  };
  try {
    const { vcpu, memory, area } = makeGuestCpu(job.device, calls, step);
    const afterReset = step('registers', () => [readAndSet(calls, vcpu), 'KVM_SET_SREGS, KVM_SET_REGS']);
    for (const guest of job.guests)
      step(guest.step, () => [undefined, runGuest({ calls, vcpu, memory, area, afterReset }, guest)]);
    tell({ done: true });
  } catch (error) {
    if (!(error instanceof StepFailed)) throw error;
  }
}

interface GuestCpu {
  readonly calls: Calls;
  readonly vcpu: number;
  /** Of the guest, from its address 0 on. */
  readonly memory: Memory;
  /** struct kvm_run and what belongs to it. */
  readonly area: Memory;
  /** struct kvm_sregs. */
  readonly afterReset: Buffer;
}

type Step = <T>(id: StepId, work: () => readonly [T, string]) => T;

function makeGuestCpu(device: string, calls: Calls, step: Step): Omit<GuestCpu, 'calls' | 'afterReset'> {
  const kvm = step('open', () => [calls.open(device), device]);
  step('api-version', () => {
    const version = calls.ioctl('KVM_GET_API_VERSION', kvm);
    if (version !== apiVersion) throw wrong(`version ${version}, and not ${apiVersion}`);
    return [version, `KVM_GET_API_VERSION: ${version}`];
  });
  step('extensions', () => [undefined, askExtensions(calls, kvm)]);
  const vm = step('create-vm', () => {
    const made = calls.ioctl('KVM_CREATE_VM', kvm);
    // Where QEMU has it, too: three pages that VT-x may need for real mode, not in the way of any memory.
    calls.ioctl('KVM_SET_TSS_ADDR', made, 0xfeff_d000);
    return [made, 'KVM_CREATE_VM'];
  });
  const memory = step('memory', () => {
    const made = allocate(layout.bytes);
    const region = allocate(size.kvm_userspace_memory_region);
    region.bytes.writeBigUInt64LE(BigInt(layout.bytes), memoryRegion.bytes);
    region.bytes.writeBigUInt64LE(made.address, memoryRegion.hostAddress);
    calls.ioctl('KVM_SET_USER_MEMORY_REGION', vm, region.address, `${layout.bytes} bytes at 0`);
    region.free();
    return [made, `KVM_SET_USER_MEMORY_REGION: ${layout.bytes >> 10} KiB`];
  });
  const vcpu = step('create-vcpu', () => [calls.ioctl('KVM_CREATE_VCPU', vm), 'KVM_CREATE_VCPU']);
  const area = step('run-area', () => {
    const bytes = calls.ioctl('KVM_GET_VCPU_MMAP_SIZE', kvm);
    return [calls.map(vcpu, bytes), `mmap of kvm_run: ${bytes} bytes`];
  });
  step('cpuid', () => [undefined, setCpuid(calls, kvm, vcpu)]);
  return { vcpu, memory, area };
}

/** @returns the counts, in words. */
function askExtensions(calls: Calls, kvm: number): string {
  const ask = ([name, number]: [string, number]) => calls.ioctl('KVM_CHECK_EXTENSION', kvm, number, name);
  const missing = Object.entries(requiredCapabilities).filter((capability) => ask(capability) === 0);
  if (missing.length > 0) throw wrong(`this kernel's KVM has no ${missing.map(([name]) => name).join(', ')}`);
  const [recommended, slots, most] = Object.entries(countingCapabilities).map(ask);
  return `KVM_CHECK_EXTENSION: ${most} virtual CPUs at most, ${recommended} recommended; ${slots} pieces of memory`;
}

/** Gives the virtual CPU all that KVM offers, and the leaf by which a guest knows that this was heard. */
function setCpuid(calls: Calls, kvm: number, vcpu: number): string {
  return withBytes(emptyCpuid(), (address, table) => {
    calls.ioctl('KVM_GET_SUPPORTED_CPUID', kvm, address);
    const leaves = addOwnLeaf(table);
    calls.ioctl('KVM_SET_CPUID2', vcpu, address, `${leaves} leaves`);
    return `KVM_SET_CPUID2: ${cpuVendor(table)}, ${leaves} leaves`;
  });
}

/** Both kinds of registers, there and back. @returns struct kvm_sregs of a CPU after reset */
function readAndSet(calls: Calls, vcpu: number): Buffer {
  const special = allocate(size.kvm_sregs);
  const general = allocate(size.kvm_regs);
  const read = (): void => {
    calls.ioctl('KVM_GET_SREGS', vcpu, special.address);
    calls.ioctl('KVM_GET_REGS', vcpu, general.address);
  };
  read();
  const afterReset = Buffer.from(special.bytes.subarray(0, size.kvm_sregs));
  const set = { special: realModeSregs(afterReset), general: firstRegs('real-mode') };
  set.general.writeBigUInt64LE(0x0123_4567_89ab_cdefn, registerOffset('r15'));
  special.bytes.set(set.special);
  general.bytes.set(set.general);
  calls.ioctl('KVM_SET_SREGS', vcpu, special.address);
  calls.ioctl('KVM_SET_REGS', vcpu, general.address);
  special.bytes.fill(0);
  general.bytes.fill(0);
  read();
  if (!special.bytes.subarray(0, size.kvm_segment).equals(set.special.subarray(0, size.kvm_segment)))
    throw wrong('KVM_GET_SREGS does not give the code segment that was set');
  if (!general.bytes.subarray(0, size.kvm_regs).equals(set.general))
    throw wrong('KVM_GET_REGS does not give what was set');
  special.free();
  general.free();
  return afterReset;
}

/** A guest that works exits a few times. */
const mostExits = 16;

/** Runs a guest to its `hlt` and compares. @returns what it did, in words */
function runGuest({ calls, vcpu, memory, area, afterReset }: GuestCpu, guest: Guest): string {
  const isReal = guest.step === 'real-mode';
  memory.bytes.fill(0);
  memory.bytes.set(Buffer.from(guest.code.replaceAll(' ', ''), 'hex'), isReal ? layout.realCode : layout.longCode);
  if (!isReal) writePageTables(memory.bytes);
  const special = isReal ? realModeSregs(afterReset) : longModeSregs(afterReset);
  withBytes(special, (address) => calls.ioctl('KVM_SET_SREGS', vcpu, address));
  withBytes(firstRegs(guest.step), (address) => calls.ioctl('KVM_SET_REGS', vcpu, address));
  let written = 0;
  for (let exits = 1; exits <= mostExits; exits++) {
    calls.run(vcpu);
    const exit = readExit(area.bytes);
    calls.note(exitText(exit));
    if (exit.reason === 'other') throw wrong(exit.text);
    if (exit.reason === 'halt') {
      if (written < guest.writes.length) throw wrong('the guest halted before it had written its result');
      compareMemory(memory.bytes, guest);
      return `KVM_RUN: ${guest.writes.map(({ value }) => `0x${value.toString(16)}`).join(', ')}, as it should be`;
    }
    const wanted = guest.writes[written++];
    if (exit.port !== resultPort || exit.bytes !== wanted?.bytes || exit.value !== wanted.value) {
      const right = wanted === undefined ? 'nothing more' : `0x${wanted.value.toString(16)} (${wanted.bytes} bytes)`;
      throw wrong(`${exitText(exit)}; right would be ${right}`);
    }
  }
  throw wrong(`the guest did not halt after ${mostExits} exits`);
}

function compareMemory(memory: Buffer, { leaves }: Guest): void {
  const found = memory.toString('hex', leaves.address, leaves.address + leaves.content.length / 2);
  if (found === leaves.content) return;
  throw wrong(
    `the guest left ${found} at 0x${leaves.address.toString(16)} of its memory; right would be ${leaves.content}`,
  );
}

const wrong = (why: string): StepFailed => new StepFailed({ kind: 'answer', text: why });
