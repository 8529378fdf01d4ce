import { performance } from 'node:perf_hooks';
import { TsvError } from '../../src/model/errors.ts';
import type { Measure } from '../../src/model/timings.ts';
import { errorText } from './text.ts';

/** One thing that has to be so before a machine can be used. */
export interface Readiness {
  /** As a statement: `port 22 answers at 10.0.0.5`. */
  readonly description: string;
  /** What it is called where its time is told; absent: its time counts as that of the next one. */
  readonly part?: string;
  /**
   * Resolves when it is so; rejects when it cannot become so any more. Until then it waits: it has to stop, by
   * rejecting, when `signal` fires. `report` says why it is not so yet.
   */
  readonly check: (signal: AbortSignal, report: (why: string) => void) => Promise<void>;
  /** What to look at when it does not become so. */
  readonly hint: string;
  /** true: nothing after it is tried before it is so. false: it only explains a wait that failed elsewhere. */
  readonly fatal: boolean;
}

export interface Wait {
  /** The machine, for messages. */
  readonly name: string;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** Rejects when waiting on makes no sense (the machine died). */
  readonly doomed: Promise<never>;
  /** Context for a failure: the console's last lines. */
  readonly lastLines: () => readonly string[];
  /** Told of each requirement with a `part` that is met during the wait: how long since the one before it was. */
  readonly measured?: Measure;
}

/**
 * Waits for each requirement in turn.
 * @throws TSV_WAIT that names the first one that is not met, its number and hint; TSV_CANCELLED when `signal` fires;
 * what `doomed` rejects with; a TsvError of a check as it is.
 */
export async function awaitReadiness(list: readonly Readiness[], wait: Wait): Promise<void> {
  const cancelled = () => new TsvError('TSV_CANCELLED', `waiting for ${wait.name} was interrupted`, { exitCode: 130 });
  wait.doomed.catch(() => {}); // it may happen after the wait, when nobody looks
  if (wait.signal.aborted) throw cancelled();
  const start = performance.now();
  let lastMet = start;
  const met = list.map(() => false);
  const reports = list.map(() => '');
  const stop = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  let onAbort = () => {};
  const interrupted = new Promise<never>((_, reject) => {
    onAbort = () => reject(cancelled());
    wait.signal.addEventListener('abort', onAbort, { once: true });
  });
  const late = Symbol('late');
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(late), wait.timeoutMs);
  });
  const unmet = (why: string | undefined): TsvError => {
    const index = Math.max(0, met.indexOf(false));
    const requirement = list[index];
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    const reason = why ?? reports[index];
    return new TsvError(
      'TSV_WAIT',
      `${wait.name} is not ready after ${seconds} s: not met is "${requirement?.description}" (${index + 1} of ${list.length})`,
      {
        details: [...(reason ? [reason] : []), ...consoleDetails(wait.lastLines())],
        hint: requirement?.hint ?? '',
      },
    );
  };
  const inTurn = async () => {
    for (const [index, { check, fatal, part }] of list.entries()) {
      const done = check(stop.signal, (why) => {
        reports[index] = why;
      }).then(() => {
        met[index] = true;
        if (part === undefined || wait.measured === undefined || stop.signal.aborted) return;
        const now = performance.now();
        wait.measured(part, now - lastMet);
        lastMet = now;
      });
      if (fatal) await done;
      else {
        done.catch((error: unknown) => {
          reports[index] = errorText(error);
        });
      }
    }
  };
  try {
    await Promise.race([inTurn(), timeout, interrupted, wait.doomed]);
  } catch (error) {
    if (error === late) throw unmet(undefined);
    throw error instanceof TsvError ? error : unmet(errorText(error));
  } finally {
    clearTimeout(timer);
    wait.signal.removeEventListener('abort', onAbort);
    stop.abort();
  }
}

/** The end of the console as details of an error. */
export const consoleDetails = (lines: readonly string[]): string[] =>
  lines.length === 0 ? ['the console is empty'] : ['last lines of the console:', ...lines.map((line) => `  ${line}`)];
