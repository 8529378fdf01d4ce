import type { Ending } from '../../src/model/state.ts';
import { signalName } from '../../src/sys/signals.ts';

/** What QEMU prints when a signal makes it end in order, with exit status 0 (softmmu/runstate.c, qemu_system_killed). */
const terminated = /terminating on signal (\d+)(?: from pid (\d+)(?: \((.*)\))?)?/;

/**
 * How a VM ended, from how QEMU ended and what it printed last: by the guest's own power off, by somebody's signal, by a
 * failure of QEMU, or because its kernel panicked.
 * @param panic what the kernel printed last, if that was a panic: the agent has ended QEMU then
 */
export function endingOfQemu(ending: Ending, log: readonly string[], panic: string | undefined): Ending {
  const match = log.map((line) => terminated.exec(line)).find((found) => found !== null);
  if (match != null && ending.why === 'exited') {
    const [, signal = '', pid, name] = match;
    const by = pid === undefined ? '' : `sent by process ${pid}${name === undefined ? '' : ` (${name})`}`;
    return {
      at: ending.at,
      why: 'killed',
      signal: signalName(Number(signal)),
      ...(by === '' ? {} : { detail: by }),
    };
  }
  if (ending.why !== 'exited') return ending;
  if (panic !== undefined && ending.code === 0) return { at: ending.at, why: 'panicked', detail: panic };
  const last = log.at(-1);
  return ending.code === 0 || last === undefined ? ending : { ...ending, detail: last };
}
