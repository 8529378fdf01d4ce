import { CLONE, flagNames, MS } from './flags.ts';
import type { SyscallName } from './libc.ts';

/**
 * A syscall program: what a freshly forked child does before it executes something, as data.
 *
 * Node cannot fork: its threads and V8's heap do not survive in the child. But a child that runs no JavaScript, only a
 * list of system calls that was laid out in memory before the fork, needs neither. So a program is written here as a
 * list, can be printed and compared in tests, and is run by `fork.ts`.
 */
export type Argument =
  | number
  | bigint
  /** Address of a NUL-terminated string. */
  | string
  /** Address of a NULL-terminated array of strings. */
  | { readonly strings: readonly string[] }
  /** Address of these bytes; `out` marks memory that the call fills. */
  | { readonly bytes: Uint8Array; readonly out?: true }
  /** Address of a structure of 64-bit words. */
  | { readonly words: readonly Word[] }
  /** Number that the program's descriptor of this name has in the child. */
  | { readonly fd: string }
  /** Address of `/proc/self/fd/N` for the descriptor: a path that no rename can turn elsewhere. */
  | { readonly fdPath: string }
  /** What the last step with this `as` returned. Each result can be used twice. */
  | { readonly result: string };

/** A number, a descriptor's number, or the address of bytes or of another structure. */
export type Word =
  | number
  | bigint
  | { readonly fd: string }
  | { readonly bytes: Uint8Array }
  | { readonly words: readonly Word[] };

export interface CallStep {
  readonly call: SyscallName;
  readonly args: readonly Argument[];
  /** `must` (default): an error ends the child; `may`: errors are passed over; `positive`: 0 ends it too (end of file). */
  readonly mode?: 'must' | 'may' | 'positive';
  readonly as?: string;
  /** Why, for the printed program and error messages. */
  readonly note?: string;
}

export type Step =
  | CallStep
  /**
   * `steps` if the call succeeds, else `otherwise`. `error`: whatever it fails with is passed over; `absent`: only that there
   * is no such file (ENOENT, ENOTDIR).
   */
  | {
      readonly try: CallStep;
      readonly unless: 'error' | 'absent';
      readonly steps: readonly Step[];
      readonly otherwise?: readonly Step[];
    }
  /** Tells the parent how far it is, with the result of an earlier step. */
  | { readonly report: Report; readonly value?: string }
  /** clone(2): what follows runs in the new child; the process itself runs `parent` and ends. */
  | { readonly fork: number; readonly as: string; readonly parent: readonly Step[] }
  /** Goes on in other steps. */
  | { readonly jump: readonly Step[] }
  /** Leaves the interpreter with a result: for a program that runs in its caller. */
  | { readonly end: string };

/** Messages from the child to its parent; see the drawing in fork.ts. */
export type Report = 'kept' | 'unshared' | 'forked' | 'opened' | 'mounted' | 'ready';
export const reportCodes: Readonly<Record<Report, number>> = {
  unshared: 1,
  forked: 2,
  opened: 3,
  mounted: 4,
  ready: 5,
  kept: 6,
};

export interface Program {
  /** Open descriptors of the parent that the child keeps, by name (-1: a free place for one of the child's own); all others are closed in the child. */
  readonly fds: Readonly<Record<string, number>>;
  readonly steps: readonly Step[];
}

/** One line per step, for tests and error messages: `mount tmpfs dev tmpfs MS_NOSUID mode=755`. */
export function printStep(step: Step): string {
  if ('report' in step) return `report ${step.report}${step.value === undefined ? '' : ` (${step.value})`}`;
  if ('fork' in step) return `fork ${flagNames('CLONE', CLONE, step.fork & ~0xff)} as ${step.as}`;
  if ('jump' in step) return 'jump';
  if ('end' in step) return `end with ${step.end}`;
  if ('try' in step) return `${step.unless === 'absent' ? 'if present' : 'if possible'}: ${printStep(step.try)}`;
  const text = step.args.map((argument, index) => printArgument(step.call, argument, index));
  return [
    step.call,
    ...text,
    ...(step.as === undefined ? [] : [`as ${step.as}`]),
    ...(step.mode === undefined || step.mode === 'must' ? [] : [`(${step.mode})`]),
    ...(step.note === undefined ? [] : [`# ${step.note}`]),
  ].join(' ');
}

/** The whole program; what depends on a step is indented below it. */
export function printProgram(steps: readonly Step[]): string {
  return steps.flatMap(printNested).join('\n');
}

function printNested(step: Step): string[] {
  const indented = (steps: readonly Step[]) => steps.flatMap(printNested).map((line) => `  ${line}`);
  if ('jump' in step) return [printStep(step), ...indented(step.jump)];
  if (!('try' in step)) return [printStep(step)];
  const { steps, otherwise = [] } = step;
  return [printStep(step), ...indented(steps), ...(otherwise.length === 0 ? [] : ['else', ...indented(otherwise)])];
}

function printArgument(call: SyscallName, argument: Argument, index: number): string {
  if (typeof argument === 'string') return argument === '' ? "''" : argument;
  if (typeof argument === 'object') {
    if ('strings' in argument) return `[${argument.strings.join(' ')}]`;
    if ('bytes' in argument) return `<${argument.bytes.length} bytes>`;
    if ('words' in argument) return `{${argument.words.map(printWord).join(' ')}}`;
    if ('fdPath' in argument) return `@${argument.fdPath}`;
    return 'fd' in argument ? `fd:${argument.fd}` : `$${argument.result}`;
  }
  if (call === 'mount' && index === 3) return flagNames('MS', MS, Number(argument));
  if ((call === 'unshare' || (call === 'setns' && index === 1)) && typeof argument === 'number')
    return flagNames('CLONE', CLONE, argument);
  return String(argument);
}

function printWord(word: Word): string {
  if (typeof word !== 'object') return String(word);
  if ('words' in word) return `{${word.words.map(printWord).join(' ')}}`;
  return 'fd' in word ? `fd:${word.fd}` : `<${word.bytes.length} bytes>`;
}
