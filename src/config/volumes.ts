import type { Volume, VolumeUse } from '../model/project.ts';
import type { Report, Span } from './diagnostic.ts';
import type { MachineDraft } from './machines.ts';
import { isTaken } from './mounts.ts';
import { booleanOf, entriesOf, fieldOf, guestPathOf, itemsOf, type Located, normalGuestPath, textOf } from './read.ts';
import { didYouMean } from './suggest.ts';
import type { Node } from './tree.ts';

/** The project's volumes, with the places of their names. */
export function readVolumes(root: Node): readonly (Volume & { readonly at: Span })[] {
  return entriesOf(fieldOf(root, 'volumes')).map(({ key, keySpan, value }) => ({
    name: key,
    keep: booleanOf(fieldOf(value, 'keep')) ?? false,
    at: keySpan,
  }));
}

/** `NAME:PATH`, `NAME:PATH:ro` or a map, of one machine. `shares`: where it has shares. */
export function readVolumeUses(
  node: Node | undefined,
  shares: readonly { readonly guest: string }[],
  report: Report,
): readonly Located<VolumeUse>[] {
  const uses: Located<VolumeUse>[] = [];
  for (const item of itemsOf(node)) {
    const use = readUse(item, report);
    if (use === undefined) continue;
    const { guest } = use.value;
    if (isTaken(guest)) report(use.at, `${guest} of a container cannot be replaced by a volume`);
    if (uses.some(({ value }) => value.guest === guest)) report(use.at, `two volumes are at ${guest}`);
    if (shares.some((share) => share.guest === guest)) report(use.at, `a share is at ${guest}, too`);
    uses.push(use);
  }
  return uses;
}

function readUse(node: Node, report: Report): Located<VolumeUse> | undefined {
  const text = textOf(node);
  if (text === undefined) {
    const [name, guest] = [textOf(fieldOf(node, 'name')), guestPathOf(fieldOf(node, 'guest'), report)];
    if (name === undefined || guest === undefined) return undefined;
    const readonly = booleanOf(fieldOf(node, 'readonly')) ?? false;
    return { value: { name: name.value, guest: guest.value, readonly }, at: name.at };
  }
  const [, name, path, mode] = /^([^:/]+):(\/[^:]*)(?::(r[ow]))?$/.exec(text.value) ?? [];
  if (name === undefined || path === undefined) return undefined;
  const guest = normalGuestPath({ value: path, at: text.at }, report);
  return { value: { name, guest, readonly: mode === 'ro' }, at: text.at };
}

/** Volumes that are used and not declared, and the other way round. */
export function checkVolumes(
  machines: readonly MachineDraft[],
  volumes: ReturnType<typeof readVolumes>,
  report: Report,
) {
  const uses = machines.flatMap((machine) => machine.volumes);
  const names = volumes.map(({ name }) => name);
  for (const { value, at } of uses) {
    if (names.includes(value.name)) continue;
    const hint = didYouMean(value.name, names) ?? `declare it at the top: volumes: { ${value.name}: }`;
    report(at, `there is no volume \`${value.name}\``, hint);
  }
  for (const { name, at } of volumes) {
    if (!uses.some(({ value }) => value.name === name))
      report(at, `no machine uses the volume \`${name}\``, 'remove it: what it holds stays until `tsv destroy`');
  }
}
