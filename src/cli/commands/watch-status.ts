import { watchStatus } from '../../app/watch-status.ts';
import { untilInterrupted } from '../interrupt.ts';
import type { Session } from '../program.ts';
import { renderError } from '../render/error.ts';
import { jsonLine } from '../render/json.ts';
import { createLive } from '../render/live.ts';
import { renderStatus } from '../render/status.ts';
import { readTerminal } from '../render/terminal.ts';

/** `tsv status --watch`: until it is interrupted. */
export async function watchAndShow(session: Session, options: { json?: boolean }): Promise<number> {
  const { stdout, stderr, place } = session;
  const terminal = () => readTerminal(stdout, place.env);
  const live = options.json === true ? undefined : createLive(stdout, terminal);
  const interrupted = untilInterrupted(session);
  let shown = (): void => {};
  const end = await watchStatus(place, (look) => {
    shown = () => {
      if ('error' in look) {
        // On a terminal in place of the table, until there is one again.
        if (live !== undefined && terminal().cursor) live.show(renderError(look.error, terminal()));
        else stderr.write(renderError(look.error, readTerminal(stderr, place.env)));
      } else if (live === undefined) stdout.write(`${jsonLine(look.status)}\n`);
      else live.show(renderStatus(look.status, terminal()));
    };
    shown();
  });
  const onResize = (): void => shown();
  if (live !== undefined) stdout.on('resize', onResize);
  try {
    return await interrupted;
  } finally {
    stdout.off('resize', onResize);
    live?.done();
    end();
  }
}
