import { TsvError } from '../../model/errors.ts';
import { signalNumber } from '../../sys/signals.ts';

/** The C library's SIGRTMIN and SIGRTMAX: signal(7). */
const realtime = { RTMIN: 34, RTMAX: 64 } as const;

/** `SIGTERM`, `term`, `15` and `RTMIN+3` as numbers; 0 asks only whether there is a process. @throws TSV_USAGE */
export function readSignal(text: string): number {
  const number = /^\d+$/.test(text) ? Number(text) : named(text.toUpperCase().replace(/^SIG/, ''));
  if (number === undefined || number > realtime.RTMAX)
    throw new TsvError('TSV_USAGE', `unknown signal ${JSON.stringify(text)}`, { hint: 'kill -l lists them' });
  return number;
}

function named(name: string): number | undefined {
  const [, base, distance = '0'] = /^(RTMIN|RTMAX)([+-]\d+)?$/.exec(name) ?? [];
  if (base === 'RTMIN' || base === 'RTMAX') {
    const number = realtime[base] + Number(distance);
    return number >= realtime.RTMIN ? number : undefined;
  }
  const number = signalNumber(name);
  return number === 0 ? undefined : number;
}
