import type { NetworkMode } from '../model/project.ts';
import type { Report, Span } from './diagnostic.ts';
import { choiceOf, entriesOf, fieldOf, type Located, textOf } from './read.ts';
import type { Node } from './tree.ts';
import { type Block, formatIpv4, parseCidr } from './units.ts';

export interface NetworkDraft {
  readonly name: string;
  readonly at: Span;
  readonly mode: NetworkMode;
  readonly subnet?: Located<Block>;
}

/** The name that machines are on when nothing else is said. */
export const defaultNetwork = 'default';

export const blockText = (block: Block): string => `${formatIpv4(block.first)}/${block.prefix}`;

/** The declared networks, by name. Reports subnets with host bits, from unusable ranges, and overlapping ones. */
export function readNetworks(root: Node, report: Report): ReadonlyMap<string, NetworkDraft> {
  const drafts = new Map<string, NetworkDraft>();
  for (const { key, keySpan, value } of entriesOf(fieldOf(root, 'networks'))) {
    const subnet = readSubnet(value, report);
    const clash =
      subnet === undefined
        ? undefined
        : [...drafts.values()].find((other) => overlaps(other.subnet?.value, subnet.value));
    if (subnet !== undefined && clash?.subnet !== undefined) {
      report(
        subnet.at,
        `the subnet ${blockText(subnet.value)} overlaps ${blockText(clash.subnet.value)} of network \`${clash.name}\``,
      );
    }
    drafts.set(key, {
      name: key,
      at: keySpan,
      mode: choiceOf(fieldOf(value, 'mode'), ['nat', 'isolated'])?.value ?? 'nat',
      ...(subnet === undefined ? {} : { subnet }),
    });
  }
  return drafts;
}

const overlaps = (a: Block | undefined, b: Block): boolean => a !== undefined && a.first <= b.last && b.first <= a.last;

/** Blocks that an interface cannot have (RFC 6890): this network, loopback, link-local, multicast and reserved. */
const unusable = ['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/3'].flatMap((text) => parseCidr(text) ?? []);

function readSubnet(network: Node, report: Report): Located<Block> | undefined {
  const text = textOf(fieldOf(network, 'subnet'));
  const block = text === undefined ? undefined : parseCidr(text.value);
  // Other sizes are the schema's to report.
  if (text === undefined || block === undefined || block.prefix < 16 || block.prefix > 29) return undefined;
  if (block.address !== block.first) {
    report(text.at, `${text.value} is an address inside a subnet, not a subnet`, `did you mean ${blockText(block)}?`);
  }
  const taken = unusable.find((other) => overlaps(other, block));
  if (taken !== undefined)
    report(text.at, `the subnet ${text.value} lies in ${blockText(taken)}, which no machine can use`);
  return { value: block, at: text.at };
}
