import { endingWords } from '../../model/ending.ts';
import type { MachineEvent, MachineHappening } from '../../model/machine-event.ts';
import { type Style, style, type Terminal } from './terminal.ts';
import { count, harmless } from './text.ts';

/** `2026-01-31 12:00:05  web-1  ended with 3`, local time, with a line break at the end. */
export function renderEvent(
  { time, machine, event }: MachineEvent,
  width: number,
  terminal: Pick<Terminal, 'colour'>,
): string {
  const words = style(terminal, harmless(eventWords(event)), ...stylesOf(event));
  return `${style(terminal, localTime(new Date(time)), 'dim')}  ${harmless(machine).padEnd(width)}  ${words}\n`;
}

/** What happened to a machine, to be read behind its name. */
export function eventWords(event: MachineHappening): string {
  switch (event.type) {
    case 'provisioned':
      return `provisioned ${event.step}${event.cached === true ? ', from the cache' : ''}`;
    case 'saved':
      return `saved as ${event.snapshot}`;
    case 'restored':
      return `is what it was at ${event.snapshot}`;
    case 'renamed':
      return `renamed, was ${event.from}`;
    case 'cloned':
      return `created as a copy of ${event.from}`;
    case 'adjusted':
      return `has new limits: ${event.limits.join(', ')}`;
    case 'ended':
      return endingWords(event.ending);
    case 'restarting':
      return `restarts in ${seconds(event.inMs)} s (${ordinal(event.attempt)} time)`;
    case 'given-up':
      return `is not started again after ${count(event.attempts, 'time')}`;
    case 'signalled':
      return `got ${longName(event.signal)}`;
    case 'health':
      return event.health.status === 'starting'
        ? 'is checked for health'
        : withDetail(event.health.status, event.health.reason);
    default:
      return event.type;
  }
}

function stylesOf(event: MachineHappening): Style[] {
  switch (event.type) {
    case 'ended':
      return event.ending.why === 'exited' && event.ending.code === 0 ? [] : ['red'];
    case 'given-up':
      return ['red'];
    case 'restarting':
      return ['yellow'];
    case 'health':
      return event.health.status === 'unhealthy' ? ['red'] : event.health.status === 'healthy' ? ['green'] : [];
    default:
      return [];
  }
}

const withDetail = (words: string, detail: string | undefined): string =>
  detail === undefined || detail === '' ? words : `${words}: ${detail}`;

const longName = (signal: string): string => (/^[A-Z]/.test(signal) ? `SIG${signal}` : `signal ${signal}`);

/** `0.1`, `2`, `60`: one decimal where it says something. */
const seconds = (ms: number): string => String(Math.round(ms / 100) / 10);

function ordinal(n: number): string {
  const tens = Math.floor(n / 10) % 10;
  const ending = tens === 1 ? 'th' : (['th', 'st', 'nd', 'rd'][n % 10] ?? 'th');
  return `${n}${ending}`;
}

function localTime(date: Date): string {
  const two = (value: number) => String(value).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}
