import type { Ending } from './state.ts';

/** How a machine ended, in a few words: `ended with 3`, `killed by SIGSEGV`, `out of memory`. */
export function endingWords({ why, code, signal, detail }: Ending): string {
  const words = {
    exited: `ended with ${code ?? 0}`,
    killed: `killed by SIG${signal ?? 'KILL'}`,
    oom: 'out of memory',
    panic: 'kernel panic',
    lost: 'ended, and nobody saw how',
  }[why];
  return detail === undefined ? words : `${words}: ${detail}`;
}
