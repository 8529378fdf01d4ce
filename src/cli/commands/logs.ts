import { openLogs } from '../../app/logs.ts';
import { writeAll } from '../output.ts';
import type { Handler } from '../program.ts';
import { LogPrinter, logPrefixes, untimedNotice } from '../render/log-printer.ts';
import { readTerminal } from '../render/terminal.ts';

/** So much is written at once. */
const writeBytes = 256 << 10;

export const logs: Handler<{
  follow?: boolean;
  tail?: number | 'all';
  since?: bigint;
  until?: bigint;
  timestamps?: boolean;
  prefix: boolean;
  color: boolean;
}> = async ({ place, stdout, stderr }, names, options) => {
  const { follow = false, tail = 'all', since, until, timestamps = false } = options;
  const chosen = openLogs(place, names, {
    timestamps,
    ...(tail === 'all' ? {} : { tail }),
    ...(since === undefined ? {} : { sinceNs: since }),
    ...(until === undefined ? {} : { untilNs: until }),
  });
  try {
    const { machines } = chosen;
    const several = machines.length > 1;
    if (chosen.untimed.length > 0) stderr.write(untimedNotice(chosen.untimed));
    const terminal = readTerminal(stdout, place.env);
    const printer = new LogPrinter({
      timestamps,
      several,
      ...(several && options.prefix
        ? { prefixes: logPrefixes(machines, { colour: terminal.colour && options.color }) }
        : {}),
    });
    do {
      for (let piece = chosen.next(); piece !== undefined; piece = chosen.next()) {
        printer.print(piece);
        if (printer.bytes >= writeBytes && !(await writeAll(stdout, printer.take()))) return 0;
      }
      if (!(await writeAll(stdout, printer.take()))) return 0;
    } while (follow && (await chosen.more()));
    printer.end();
    await writeAll(stdout, printer.take());
    return 0;
  } finally {
    chosen.close();
  }
};
