import type { Emit, TsvEvent } from '../model/events.ts';
import type { Session } from './program.ts';
import { createProgress, progressMode } from './render/progress.ts';
import { readTerminal } from './render/terminal.ts';

/**
 * Runs work that reports events, shows them, and lets Ctrl-C interrupt it: once cleanly, a second time at once.
 * What is shown goes to stderr, `--json` to stdout, so that a pipe gets only what it asked for. With `timings` it tells at
 * the end where the time went, also when the work failed.
 */
export async function withProgress<T>(
  session: Session,
  options: { json?: boolean; quiet?: boolean; timings?: boolean },
  work: (emit: Emit, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const abort = new AbortController();
  const onSignal = (signal: NodeJS.Signals) => {
    if (abort.signal.aborted) process.exit(signal === 'SIGTERM' ? 143 : 130);
    abort.abort();
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  const stream = options.json === true ? session.stdout : session.stderr;
  const terminal = readTerminal(stream, session.place.env);
  const mode = progressMode(terminal, { ...options, ci: Boolean(session.place.env.CI) });
  const progress = createProgress({ mode, stream, terminal });
  const events: TsvEvent[] = [];
  const emit: Emit = (event) => {
    if (options.timings === true && isTimed(event)) events.push(event);
    progress.emit(event);
  };
  const done = async (error?: unknown): Promise<void> => {
    if (options.timings !== true) return progress.done(error);
    const [{ timingsOf }, { renderTimings }] = await Promise.all([
      import('../plan/timings.ts'),
      import('./render/timings.ts'),
    ]);
    const timings = timingsOf(events, Math.round(performance.now()));
    progress.emit({ type: 'timings', ...timings });
    await progress.done(error);
    if (options.json !== true) stream.write(renderTimings(timings, terminal));
  };
  try {
    const result = await work(emit, abort.signal);
    await done();
    return result;
  } catch (error) {
    await done(error);
    throw error;
  } finally {
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
  }
}

/** What tells where time went. */
const isTimed = ({ type }: TsvEvent): boolean => type === 'plan' || type === 'step.end' || type === 'timing';
