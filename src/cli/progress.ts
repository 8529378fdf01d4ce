import type { Emit } from '../model/events.ts';
import type { Session } from './program.ts';
import { createProgress, progressMode } from './render/progress.ts';
import { readTerminal } from './render/terminal.ts';

/**
 * Runs work that reports events, shows them, and lets Ctrl-C interrupt it: once cleanly, a second time at once.
 * What is shown goes to stderr, `--json` to stdout, so that a pipe gets only what it asked for.
 */
export async function withProgress<T>(
  session: Session,
  options: { json?: boolean; quiet?: boolean },
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
  try {
    const result = await work((event) => progress.emit(event), abort.signal);
    await progress.done();
    return result;
  } catch (error) {
    await progress.done(error);
    throw error;
  } finally {
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
  }
}
