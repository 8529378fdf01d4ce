import { toTsvError } from '../model/errors.ts';
import type { Ending } from '../model/state.ts';
import { type Condition, isMet, type Look, stateWords, type Waited } from '../model/waiting.ts';
import type { Changes } from './changes.ts';

export interface WaitOptions {
  look(name: string): Look;
  /** Whether a command is under way, which may change anything. */
  busy(): boolean;
  readonly changes: Changes;
  /** See {@link Engine}. */
  ended(name: string, signal: AbortSignal): Promise<Ending>;
  reach(name: string, signal: AbortSignal): Promise<void>;
  untilHealthy(name: string, signal: AbortSignal): Promise<void>;
}

/**
 * Waits until all machines are what is wanted, or until one of them cannot become that by itself any more, or until `signal`:
 * then with what they are instead.
 */
export async function waitForAll(
  names: readonly string[],
  condition: Condition,
  options: WaitOptions,
  signal: AbortSignal,
): Promise<readonly Waited[]> {
  const over = new AbortController();
  const either = AbortSignal.any([signal, over.signal]);
  const waiting = names.map(async (machine): Promise<Waited> => {
    try {
      const waited = await waitForOne(machine, condition, options, either);
      if (!waited.met) over.abort();
      return waited;
    } catch (error) {
      if (!either.aborted) throw error;
      const look = options.look(machine);
      return { machine, met: isMet(condition, look), is: stateWords(look) };
    }
  });
  try {
    return await Promise.all(waiting);
  } finally {
    over.abort();
  }
}

async function waitForOne(
  machine: string,
  condition: Condition,
  options: WaitOptions,
  signal: AbortSignal,
): Promise<Waited> {
  for (;;) {
    signal.throwIfAborted();
    const change = options.changes.next(signal);
    change.catch(() => {}); // it may not be waited for
    const look = options.look(machine);
    const is = stateWords(look);
    const met = isMet(condition, look);
    if (look.observed.state !== 'running') {
      // A command that is under way may start it, and so may its restart policy.
      if (!met && options.busy()) await change;
      else if (await isOver(machine, look, options, change, signal)) return { machine, met, is };
    } else if (met) return { machine, met, is };
    else if (condition === 'stopped' || condition === 'completed') await change;
    else if (look.record?.paused === true) {
      if (!options.busy()) return { machine, met, is };
      await change;
    } else if (look.record?.ready !== true && look.record?.spec.oneshot !== true) {
      if (options.busy()) await change;
      else await options.reach(machine, signal);
    } else {
      try {
        await options.untilHealthy(machine, signal);
      } catch (error) {
        if (signal.aborted) throw error;
        const now = options.look(machine);
        const { message, details } = toTsvError(error);
        const why = message.replace(`${machine} is not healthy: `, '');
        if (now.observed.state === 'running')
          return { machine, met: false, is: [stateWords(now), why, ...details.slice(0, 1)].join(': ') };
      }
    }
  }
}

/** Whether a machine that does not run stays like this; not when it is started again, or anything else has changed. */
async function isOver(
  machine: string,
  { record, observed }: Look,
  { ended }: WaitOptions,
  change: Promise<void>,
  signal: AbortSignal,
): Promise<boolean> {
  if (observed.state !== 'stopped' || record?.process === undefined) return true;
  const final = ended(machine, signal).then(
    () => true,
    (error: unknown) => {
      if (signal.aborted) throw error;
      return false; // stopped by a command meanwhile
    },
  );
  return Promise.race([final, change.then(() => false)]);
}
