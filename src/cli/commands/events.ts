import { openEvents } from '../../app/events.ts';
import { writeAll } from '../output.ts';
import type { Handler } from '../program.ts';
import { jsonLine } from '../render/json.ts';
import { renderEvent } from '../render/machine-event.ts';
import { readTerminal } from '../render/terminal.ts';

export const events: Handler<{ follow?: boolean; since?: bigint; until?: bigint; json?: boolean }> = async (
  { place, stdout },
  names,
  { follow = false, since, until, json = false },
) => {
  const opened = await openEvents(place, names, {
    ...(since === undefined ? {} : { sinceNs: since }),
    ...(until === undefined ? {} : { untilNs: until }),
  });
  const terminal = readTerminal(stdout, place.env);
  const width = Math.max(0, ...opened.machines.map((name) => name.length));
  try {
    do {
      const lines = opened
        .next()
        .map((event) => (json ? `${jsonLine(event)}\n` : renderEvent(event, width, terminal)))
        .join('');
      if (lines !== '' && !(await writeAll(stdout, [Buffer.from(lines)]))) return 0;
    } while (follow && (await opened.more()));
    return 0;
  } finally {
    opened.close();
  }
};
