import { InvalidArgumentError } from 'commander';

/** Of Go's time.ParseDuration, in nanoseconds. */
const units: Readonly<Record<string, number>> = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9, m: 60e9, h: 3600e9 };
const number = String.raw`\d+(?:\.\d*)?|\.\d+`;
const unit = 'ns|us|µs|ms|s|m|h';
const durationPattern = new RegExp(`^(?:(?:${number})(?:${unit}))+$`);
const unixPattern = /^(\d+)(?:\.(\d{1,9}))?$/;
/** RFC 3339, of which the end may be missing: minutes, hours, the whole time, the zone. */
const datePattern =
  /^(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?)?([Zz]|[+-]\d\d:\d\d)?$/;

/**
 * A point in time as `docker logs --since` takes it: RFC 3339 (without a zone: local time), seconds since 1970, or a
 * duration back from now (`10m`, `1h30m`).
 * @param nowNs nanoseconds since 1970, like the result; undefined: it is none of these
 */
export function parseMoment(text: string, nowNs: bigint): bigint | undefined {
  if (durationPattern.test(text)) return nowNs - durationNs(text);
  const unix = unixPattern.exec(text);
  if (unix !== null) return BigInt(unix[1] ?? '') * 1_000_000_000n + nanoseconds(unix[2]);
  const date = datePattern.exec(text);
  return date === null ? undefined : dateNs(date);
}

function durationNs(text: string): bigint {
  let sum = 0;
  for (const [, amount = '', name = ''] of text.matchAll(new RegExp(`(${number})(${unit})`, 'g')))
    sum += Number(amount) * (units[name] ?? 0);
  return BigInt(Math.round(sum));
}

function dateNs([, year, month, day, hour = '00', minute = '00', second = '00', fraction, zone]: RegExpExecArray):
  | bigint
  | undefined {
  const local = `${year}-${month}-${day}T${hour}:${minute}:${second}`;
  const ms = Date.parse(`${local}${zone?.toUpperCase() ?? ''}`);
  // Date.parse takes the 31st of each month.
  const days = new Date(Date.UTC(Number(year), Number(month), 0)).getUTCDate();
  return Number.isNaN(ms) || Number(day) > days ? undefined : BigInt(ms) * 1_000_000n + nanoseconds(fraction);
}

const nanoseconds = (fraction = ''): bigint => BigInt(fraction.padEnd(9, '0'));

/** For an option. */
export function moment(text: string): bigint {
  const parsed = parseMoment(text, BigInt(Date.now()) * 1_000_000n);
  if (parsed !== undefined) return parsed;
  throw new InvalidArgumentError('a time (2026-01-31T12:00:00), seconds since 1970, or a duration back from now (10m)');
}
