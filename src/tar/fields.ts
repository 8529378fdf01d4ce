import { TsvError } from '../model/errors.ts';

/*
 * Fields of tar headers and PAX records. Text is kept as one character per byte (latin1): names are bytes to the
 * kernel, and an archive may hold any.
 */

/** Everything in an archive is filled up to a block. */
export const blockBytes = 512;

export interface Time {
  /** Since 1970, rounded down. */
  readonly seconds: number;
  readonly nanoseconds: number;
}

/** What makes an archive unreadable, and where in it. */
export function malformed(why: string, at?: string): TsvError {
  return new TsvError('TSV_IMAGE', 'a layer of the image is not a valid tar archive', {
    details: [at === undefined ? why : `${printable(at)}: ${why}`],
    hint: 'the image was built wrong or tampered with: tell whoever publishes it',
  });
}

/** A name of an archive for people: as UTF-8 where it is, without control characters, and not endless. */
export function printable(name: string): string {
  const text = Buffer.from(name, 'latin1').toString('utf8');
  const short = text.length > 200 ? `${text.slice(0, 100)}…${text.slice(-99)}` : text;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return short.replace(/[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g, '\ufffd');
}

/** A text field: up to its NUL, or all of it. */
export function textField(block: Buffer, offset: number, length: number): string {
  const nul = block.indexOf(0, offset);
  return block.toString('latin1', offset, nul === -1 || nul > offset + length ? offset + length : nul);
}

/**
 * A number of a header: octal digits among spaces and NULs (POSIX), or GNU's base 256, whose first bit is set and
 * whose second is its sign. A number beyond 2^53 is no number of anything here.
 */
export function numberField(block: Buffer, offset: number, length: number, what: string): number {
  const first = block[offset] ?? 0;
  if ((first & 0x80) !== 0) {
    let value = BigInt(first & 0x40 ? first - 0x100 : first & 0x3f);
    for (let i = 1; i < length; i++) value = (value << 8n) | BigInt(block[offset + i] ?? 0);
    const number = Number(value);
    if (!Number.isSafeInteger(number)) throw malformed(`${what} is out of range`);
    return number;
  }
  let at = offset;
  const end = offset + length;
  while (at < end && (block[at] === 0x20 || block[at] === 0)) at++;
  let value = 0;
  for (; at < end; at++) {
    const digit = (block[at] ?? 0) - 0x30;
    if (digit >= 0 && digit < 8) value = value * 8 + digit;
    else if (digit === -0x30)
      break; // NUL: what is behind it does not count
    else if (digit === -0x10 && isBlank(block, at, end)) break;
    else throw malformed(`${what} is not a number`);
  }
  return value;
}

function isBlank(block: Buffer, from: number, to: number): boolean {
  for (let at = from; at < to; at++) if (block[at] !== 0x20 && block[at] !== 0) return false;
  return true;
}

/** A decimal number of a PAX record, not negative. */
export function decimal(text: string, what: string): number {
  const value = /^[0-9]{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw malformed(`${what} is not a number, or out of range`);
  return value;
}

/** A time of a PAX record: `-1.5`, `1700000000.123456789`; digits behind the ninth are dropped. */
export function paxTime(text: string): Time {
  const match = /^(-?)([0-9]{1,15})(?:\.([0-9]*))?$/.exec(text);
  if (match === null) throw malformed('the time is not a number');
  const [, sign, whole, fraction = ''] = match;
  const nanoseconds = Number(fraction.slice(0, 9).padEnd(9, '0'));
  if (sign !== '-') return { seconds: Number(whole), nanoseconds };
  return nanoseconds === 0
    ? { seconds: 0 - Number(whole), nanoseconds }
    : { seconds: -1 - Number(whole), nanoseconds: 1e9 - nanoseconds };
}

/**
 * The records of a PAX header, `LENGTH KEY=VALUE\n`, in their order (pax(1), Extended Header). A value may hold any
 * byte; a name that ends at a NUL for one reader and not for another is refused.
 */
export function paxRecords(content: Buffer): [key: string, value: string][] {
  const records: [string, string][] = [];
  let at = 0;
  while (at < content.length) {
    const space = content.indexOf(0x20, at);
    const digits = space === -1 || space - at > 8 ? '' : content.toString('latin1', at, space);
    const length = /^[1-9][0-9]*$/.test(digits) ? Number(digits) : 0;
    const end = at + length;
    const equals = content.indexOf(0x3d, space + 1);
    if (end > content.length || end < space + 3 || content[end - 1] !== 0x0a || equals === -1 || equals >= end) {
      throw malformed('a record of an extended header is malformed');
    }
    const key = content.toString('latin1', space + 1, equals);
    const value = content.toString('latin1', equals + 1, end - 1);
    if (key.includes('\0') || (!key.startsWith('SCHILY.xattr.') && value.includes('\0'))) {
      throw malformed(`a NUL byte in the record ${printable(key)} of an extended header`);
    }
    records.push([key, value]);
    at = end;
  }
  return records;
}

const zeroBlock = Buffer.alloc(blockBytes);
/** A block of nothing: two of them end an archive. */
export const isZero = (block: Buffer): boolean => block[0] === 0 && block.equals(zeroBlock);

/** The sum of all bytes, with those of the sum itself as spaces. Some old programs took bytes as signed. */
export function checkSum(block: Buffer): void {
  let unsigned = 8 * 0x20;
  let signed = unsigned;
  for (let i = 0; i < blockBytes; i++) {
    if (i === 148) i = 156;
    const byte = block[i] ?? 0;
    unsigned += byte;
    signed += byte > 127 ? byte - 256 : byte;
  }
  const stated = numberField(block, 148, 8, 'the checksum');
  if (stated !== unsigned && stated !== signed) throw malformed('the checksum of a header is wrong');
}

/** The name, with the prefix of POSIX; star has a shorter one, GNU has other things there. */
export function nameOf(block: Buffer): string {
  const name = textField(block, 0, 100);
  if (block.toString('latin1', 257, 263) !== 'ustar\0') return name;
  const star = block.toString('latin1', 508, 512) === 'tar\0';
  const prefix = textField(block, 345, star ? 131 : 155);
  return prefix === '' ? name : `${prefix}/${name}`;
}
