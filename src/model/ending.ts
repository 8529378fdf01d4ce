import { parseSignal } from './signals.ts';
import type { Ending, Observed } from './state.ts';

/** How a machine ended, in a few words: `ended with 3`, `killed by SIGSEGV`, `out of memory`. */
export function endingWords({ why, code, signal, detail }: Ending): string {
  const words = {
    exited: `ended with ${code ?? 0}`,
    killed: `killed by SIG${signal ?? 'KILL'}`,
    oom: 'out of memory',
    panicked: 'its kernel panicked',
    lost: 'ended, and nobody saw how',
  }[why];
  return detail === undefined ? words : `${words}: ${detail}`;
}

/** As a shell gives it: the exit status, 128 + number of the signal, else 1. */
export function endingCode({ code, signal = '' }: Ending): number {
  if (code !== undefined) return code;
  const number = parseSignal(signal);
  return number === undefined ? 1 : 128 + number;
}

/** It ended by itself and well, which is what a one-shot machine is for. */
export const hasSucceeded = ({ why, code = 0 }: Ending): boolean => why === 'exited' && code === 0;

/** A one-shot machine that has done its work: stopped is what it is to be. */
export const isCompleted = (machine: { readonly oneshot?: boolean }, observed: Observed): boolean =>
  machine.oneshot === true &&
  observed.state === 'stopped' &&
  observed.ended !== undefined &&
  hasSucceeded(observed.ended);
