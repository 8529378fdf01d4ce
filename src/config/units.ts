const kibi = { K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 } as const;

/** Bytes of `512M`, `1.5G` (powers of 1024) or a plain number of bytes; undefined when it is neither. */
export function parseSize(text: string): number | undefined {
  const match = /^([0-9]{1,16}(?:\.[0-9]{1,6})?)([KMGT]?)$/i.exec(text);
  if (match === null) return undefined;
  const unit = (match[2] ?? '').toUpperCase();
  const bytes = Math.round(Number(match[1]) * (unit === '' ? 1 : kibi[unit as keyof typeof kibi]));
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

const unitMs = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const;

/** Milliseconds of `500ms`, `2s`, `1m30s`; undefined when it is no duration. */
export function parseDuration(text: string): number | undefined {
  if (!/^(?:[0-9]{1,9}(?:\.[0-9]{1,6})?(?:ms|s|m|h))+$/.test(text)) return undefined;
  let ms = 0;
  for (const [, amount, unit] of text.matchAll(/([0-9.]+)(ms|s|m|h)/g)) {
    ms += Number(amount) * unitMs[unit as keyof typeof unitMs];
  }
  return Math.round(ms);
}

/** Permission bits of `0644`, `644` or `0o644`; undefined when these are no octal digits. */
export function parseMode(text: string): number | undefined {
  const match = /^(?:0o|0)?([0-7]{3,4})$/.exec(text);
  return match?.[1] === undefined ? undefined : Number.parseInt(match[1], 8);
}

/** An IPv4 address as a number, or undefined. Leading zeros are refused: they mean octal to some programs. */
export function parseIpv4(text: string): number | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  let value = 0;
  for (const part of parts) {
    if (!/^(?:0|[1-9][0-9]{0,2})$/.test(part) || Number(part) > 255) return undefined;
    value = value * 256 + Number(part);
  }
  return value;
}

export const formatIpv4 = (value: number): string => [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join('.');

/** An IPv4 block: `first` is its network address, `last` its broadcast address. */
export interface Block {
  readonly address: number;
  readonly prefix: number;
  readonly first: number;
  readonly last: number;
}

/** The block of `10.77.1.0/24`, also when host bits are set (`address` keeps them); undefined when it is none. */
export function parseCidr(text: string): Block | undefined {
  const [left = '', right = ''] = text.split('/');
  const address = parseIpv4(left);
  if (address === undefined || !/^[0-9]{1,2}$/.test(right) || Number(right) > 32) return undefined;
  const size = 2 ** (32 - Number(right));
  const first = Math.floor(address / size) * size;
  return { address, prefix: Number(right), first, last: first + size - 1 };
}
