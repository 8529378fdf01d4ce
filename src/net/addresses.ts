import { createHash } from 'node:crypto';
import { isIPv4 } from 'node:net';
import { TsvError } from '../model/errors.ts';

/** An IPv4 network: base address and prefix length, both as numbers. */
export interface Subnet {
  readonly base: number;
  readonly prefix: number;
}

export function parseAddress(text: string): number {
  if (!isIPv4(text)) throw new TsvError('TSV_SUBNET', `'${text}' is not an IPv4 address`);
  return text.split('.').reduce((value, part) => value * 256 + Number(part), 0);
}

export const formatAddress = (value: number): string =>
  [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.');

/** `10.77.1.0/24`; bits behind the prefix are dropped. */
export function parseSubnet(text: string): Subnet {
  const [address = '', prefixText = ''] = text.split('/');
  const prefix = Number(prefixText);
  if (prefixText === '' || !Number.isInteger(prefix) || prefix < 0 || prefix > 32)
    throw new TsvError('TSV_SUBNET', `'${text}' is not a subnet`);
  const size = 2 ** (32 - prefix);
  return { base: Math.floor(parseAddress(address) / size) * size, prefix };
}

export const formatSubnet = (subnet: Subnet): string => `${formatAddress(subnet.base)}/${subnet.prefix}`;
const sizeOf = (subnet: Subnet): number => 2 ** (32 - subnet.prefix);
export const overlaps = (a: Subnet, b: Subnet): boolean => a.base < b.base + sizeOf(b) && b.base < a.base + sizeOf(a);

/** The first host address: the bridge's own. */
export const gatewayOf = (subnet: Subnet): string => formatAddress(subnet.base + 1);

/**
 * A free /24 for a network: 10.64.0.0/24 … 10.127.255.0/24, starting at a place that depends on `key`, so that the
 * same project gets the same subnet again.
 * @throws TSV_SUBNET when all of them are taken.
 */
export function chooseSubnet(key: string, taken: readonly Subnet[]): Subnet {
  const count = 64 * 256;
  const start = createHash('sha256').update(key).digest().readUInt16BE(0) % count;
  for (let i = 0; i < count; i++) {
    const candidate = { base: parseAddress('10.64.0.0') + ((start + i) % count) * 256, prefix: 24 };
    if (!taken.some((other) => overlaps(candidate, other))) return candidate;
  }
  throw new TsvError('TSV_SUBNET', 'no free subnet in 10.64.0.0/10', {
    hint: "give the network a 'subnet:' of its own",
  });
}

/** The lowest free host address behind the gateway. @throws TSV_SUBNET when the subnet is full. */
export function chooseAddress(subnet: Subnet, taken: ReadonlySet<string>): string {
  for (let value = subnet.base + 2; value < subnet.base + sizeOf(subnet) - 1; value++) {
    const address = formatAddress(value);
    if (!taken.has(address)) return address;
  }
  throw new TsvError('TSV_SUBNET', `no free address in ${formatSubnet(subnet)}`, { hint: 'make the subnet larger' });
}

/** A stable, locally administered unicast MAC address (IEEE 802, second-lowest bit of the first byte set). */
export function chooseMac(key: string): string {
  const bytes = createHash('sha256').update(key).digest().subarray(0, 5);
  return ['02', ...[...bytes].map((byte) => byte.toString(16).padStart(2, '0'))].join(':');
}

/** The subnets that the host's routing table knows (proc(5), /proc/net/route: little-endian hex); the default route is none. */
export function parseRoutes(text: string): Subnet[] {
  return text
    .split('\n')
    .slice(1)
    .map((line) => line.split('\t'))
    .filter((fields) => fields.length > 7)
    .map((fields) => ({ base: swap(fields[1] ?? '0'), mask: swap(fields[7] ?? '0') }))
    .filter(({ mask }) => mask !== 0)
    .map(({ base, mask }) => ({ base, prefix: mask.toString(2).replaceAll('0', '').length }));
}

const swap = (hex: string): number => Number.parseInt((hex.match(/../g) ?? []).reverse().join(''), 16);
