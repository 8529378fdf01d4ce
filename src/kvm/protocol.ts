import type { Guest } from './guests.ts';

/** The steps of the check, in their order, and what they are called. */
export const steps = {
  start: 'a process for the check',
  open: 'open the device',
  'api-version': 'version of the interface',
  extensions: 'what QEMU needs of it',
  'create-vm': 'make a virtual machine',
  memory: 'give it memory',
  'create-vcpu': 'give it a virtual CPU',
  'run-area': 'map what is shared with it',
  cpuid: 'say what CPU it is',
  registers: 'set registers, read them back',
  'real-mode': 'run a guest in real mode',
  'long-mode': 'run a guest in 64-bit mode, with paging',
} as const;

export type StepId = keyof typeof steps;
export const stepIds = Object.keys(steps) as readonly StepId[];

/** What the process that checks (kvm-check-main.ts) is told. */
export interface CheckJob {
  readonly device: string;
  readonly guests: readonly Guest[];
}

/** One system call. */
export interface Call {
  /** `open`, `mmap` or the name of an ioctl(2) request. */
  readonly name: string;
  /** The request's number. */
  readonly request?: number;
  readonly result: number | { readonly errno: string };
  readonly ms: number;
  /** What it was about, or what came out. */
  readonly note?: string;
}

export type Failure =
  | { readonly kind: 'errno'; readonly call: string; readonly errno: string }
  /** All calls worked, but the answer is wrong. */
  | { readonly kind: 'answer'; readonly text: string }
  /** It was ended after this time. */
  | { readonly kind: 'hang'; readonly limitMs: number }
  /** The process of the check ended in the middle. */
  | { readonly kind: 'died'; readonly text: string };

export interface StepResult {
  readonly step: StepId;
  readonly ms: number;
  /** What came out, in a few words; may be empty. */
  readonly detail: string;
  readonly calls: readonly Call[];
  readonly failure?: Failure;
}

/** A line of JSON each: before a step begins, so that one that hangs is known; when it is over; and at the end. */
export type CheckMessage = { readonly begin: StepId } | { readonly end: StepResult } | { readonly done: true };

/** The steps that were begun, in their order. Only the last one may have failed; without a failure all have been made. */
export interface CheckReport {
  readonly steps: readonly StepResult[];
  readonly failure?: { readonly step: StepId; readonly failure: Failure };
}
