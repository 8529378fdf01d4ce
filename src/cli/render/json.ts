import { toTsvError } from '../../model/errors.ts';
import type { TsvEvent } from '../../model/events.ts';
import { Outlet } from './outlet.ts';
import type { Progress, ProgressOptions } from './progress.ts';

/**
 * One line of JSON. C1 controls and the two Unicode line breaks are escaped as well, which JSON allows but does not
 * demand (RFC 8259, 7): the line then can do nothing to a terminal and no reader splits it.
 */
export const jsonLine = (value: unknown): string => escaped(JSON.stringify(value));

/** The same, for people: indented, without a line break at the end. */
export const jsonText = (value: unknown): string => escaped(JSON.stringify(value, null, 2));

const escaped = (json: string): string =>
  json.replace(/[\x7f-\x9f\u2028\u2029]/g, (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, '0')}`);

/** The events as NDJSON; the last line is `{"type":"end","ok":true}` or `{"type":"end","ok":false,"error":{…}}`. */
export function jsonProgress({ stream }: Pick<ProgressOptions, 'stream'>): Progress {
  const outlet = new Outlet(stream, (machine, text) => jsonLine({ type: 'notice', machine, text } satisfies TsvEvent));
  return {
    emit(event) {
      if (event.type === 'output') outlet.output(event.machine, jsonLine(event));
      else outlet.line(jsonLine(event));
    },
    async done(error) {
      outlet.line(
        jsonLine(
          error === undefined ? { type: 'end', ok: true } : { type: 'end', ok: false, error: toTsvError(error) },
        ),
      );
      await outlet.idle();
    },
  };
}
