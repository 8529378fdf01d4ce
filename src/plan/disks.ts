import { TsvError } from '../model/errors.ts';
import type { Disk, Machine } from '../model/project.ts';
import { sizeText } from '../model/size.ts';
import type { MachineState } from '../model/state.ts';

/** What the next start does to a container's disks, in the plan's words. Pure. */
export function diskChanges(before: readonly Disk[], after: readonly Disk[]): string[] {
  return [
    ...after.flatMap((disk) => {
      const old = before.find(({ name }) => name === disk.name);
      return old === undefined ? [`disk ${disk.name} is new`] : changesOf(old, disk);
    }),
    ...before
      .filter((disk) => !after.some(({ name }) => name === disk.name))
      .map(({ name }) => `disk ${name} is no longer in the Tsfile`),
  ];
}

function changesOf(before: Disk, after: Disk): string[] {
  const disk = `disk ${after.name}`;
  const keep = after.keep === true;
  return [
    ...(after.sizeBytes > before.sizeBytes ? [`${disk} grows to ${sizeText(after.sizeBytes)}`] : []),
    ...(after.mount === before.mount ? [] : [`${disk} moves to ${after.mount}`]),
    ...(keep === (before.keep === true) ? [] : [`${disk} is ${keep ? 'kept by' : 'no longer kept by'} destroy`]),
  ];
}

/** A container's disks outlive it being made anew, so a smaller one would never come. @throws TSV_UNSUPPORTED, with all of them */
export function refuseSmallerDisks(
  machines: readonly Machine[],
  records: Readonly<Record<string, MachineState>>,
): void {
  const smaller = machines.flatMap(({ name, kind, disks }) => {
    const before = records[name]?.spec;
    if (kind !== 'container' || before?.kind !== kind) return [];
    return disks.flatMap((disk) => {
      const old = before.disks.find((other) => other.name === disk.name);
      if (old === undefined || old.sizeBytes <= disk.sizeBytes) return [];
      return [
        `${name}: disk ${disk.name} has ${sizeText(old.sizeBytes)}, and the Tsfile says ${sizeText(disk.sizeBytes)}`,
      ];
    });
  });
  if (smaller.length === 0) return;
  throw new TsvError('TSV_UNSUPPORTED', "a container's disk cannot become smaller", {
    details: smaller,
    hint: 'give it its size back, or a new disk another name; tsv destroy removes it with its machine',
  });
}
