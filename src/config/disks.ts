import type { Disk, MachineKind, Share, Tmpfs, VolumeUse } from '../model/project.ts';
import type { Report } from './diagnostic.ts';
import { isTaken } from './mounts.ts';
import { booleanOf, entryOf, fieldOf, guestPathOf, itemsOf, type Located, sizeOf, textOf } from './read.ts';
import type { Node } from './tree.ts';

const mebibyte = 2 ** 20;
/** ext4 with blocks of 4 KiB has no journal below 2048 of them (mke2fs(8)). */
const leastSize = { vm: mebibyte, container: 8 * mebibyte } as const;

/** Whose disks they are. */
interface Owner {
  /** undefined: that is a mistake of its own. */
  readonly kind: MachineKind | undefined;
  readonly shares: readonly Share[];
  readonly volumes: readonly VolumeUse[];
  readonly tmpfs: readonly Tmpfs[];
}

/** The disks of a machine; a container's are each at a path where nothing else is. */
export function readDisks(node: Node | undefined, owner: Owner, report: Report): readonly Disk[] {
  const { kind } = owner;
  const disks: Disk[] = [];
  for (const item of itemsOf(node)) {
    const name = textOf(fieldOf(item, 'name'));
    const size = sizeOf(fieldOf(item, 'size'), report);
    const least = leastSize[kind ?? 'vm'];
    if (size !== undefined && size.value < least)
      report(size.at, `a disk ${kind === 'container' ? 'of a container ' : ''}has at least ${least / mebibyte}M`);
    if (kind === 'vm') refuseMount(item, report);
    if (name === undefined) continue;
    if (disks.some((other) => other.name === name.value)) report(name.at, `two disks are named \`${name.value}\``);
    const disk = { name: name.value, sizeBytes: size?.value ?? 0 };
    disks.push(kind === 'container' ? { ...disk, ...readMount(item, name, owner, disks, report) } : disk);
  }
  return disks;
}

function refuseMount(item: Node, report: Report): void {
  for (const [key, hint] of onlyContainers) {
    const entry = entryOf(item, key);
    if (entry !== undefined) report(entry.keySpan, `\`${key}\` is for disks of containers`, hint);
  }
}

const onlyContainers = [
  ['mount', 'a VM formats and mounts its disks itself: in `provision`'],
  ['fs', 'a VM formats and mounts its disks itself: in `provision`'],
  ['keep', 'remove it'],
] as const;

function readMount(
  item: Node,
  name: Located<string>,
  { shares, volumes, tmpfs }: Owner,
  others: readonly Disk[],
  report: Report,
): Pick<Disk, 'mount' | 'keep'> {
  const mount = guestPathOf(fieldOf(item, 'mount'), report);
  const keep = booleanOf(fieldOf(item, 'keep')) === true ? { keep: true } : {};
  if (mount === undefined) {
    if (entryOf(item, 'mount') === undefined)
      report(name.at, `the disk \`${name.value}\` of a container needs \`mount\``, 'such as mount: /data');
    return keep;
  }
  const { value: path, at } = mount;
  if (isTaken(path)) report(at, `${path} of a container cannot be replaced by a disk`);
  if (others.some((other) => other.mount === path)) report(at, `two disks are at ${path}`);
  if (shares.some((share) => share.guest === path)) report(at, `a share is at ${path}, too`);
  if (volumes.some((use) => use.guest === path)) report(at, `a volume is at ${path}, too`);
  if (tmpfs.some((folder) => folder.path === path)) report(at, `a folder in memory is at ${path}, too`);
  return { mount: path, ...keep };
}
