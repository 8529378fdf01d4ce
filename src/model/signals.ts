import { constants } from 'node:os';

const standardSignals = new Map(
  Object.entries(constants.signals).map(([name, number]) => [name.replace(/^SIG/, ''), number]),
);

/** What programs may use of the kernel's real-time signals 32 to 64: glibc keeps the first two (signal(7)). */
const realTime = { min: 34, max: 64 } as const;

/** Without SIG, for suggestions. */
export const signalNames: readonly string[] = [...standardSignals.keys(), 'RTMIN', 'RTMAX'];

/** The number of `SIGTERM`, `term`, `15`, `RTMIN+3` or `SIGRTMAX-1`; undefined when there is no such signal. */
export function parseSignal(text: string): number | undefined {
  if (/^[0-9]{1,2}$/.test(text)) return inRange(Number(text), 1, realTime.max);
  const name = text.toUpperCase().replace(/^SIG/, '');
  const match = /^RT(?:(MIN)(?:\+([0-9]{1,2}))?|(MAX)(?:-([0-9]{1,2}))?)$/.exec(name);
  if (match === null) return standardSignals.get(name);
  const number = match[1] === undefined ? realTime.max - Number(match[4] ?? 0) : realTime.min + Number(match[2] ?? 0);
  return inRange(number, realTime.min, realTime.max);
}

const inRange = (number: number, least: number, most: number): number | undefined =>
  number >= least && number <= most ? number : undefined;
