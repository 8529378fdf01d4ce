import type { Emit } from '../model/events.ts';
import type { MachineKind } from '../model/project.ts';
import { storeDir } from '../state/paths.ts';
import { listBoxes } from '../store/box/index.ts';
import { readUserMap } from '../sys/userns.ts';
import { boxesDir, type Place } from './place.ts';
import { ensureSources } from './sources.ts';

export const boxList = async (place: Place) => listBoxes(boxesDir(), storeDir(place.env), readUserMap());

/** Builds the parts of a box that the store does not have. */
export async function buildBox(
  place: Place,
  name: string,
  kinds: readonly MachineKind[],
  emit: Emit,
  signal: AbortSignal,
): Promise<void> {
  await ensureSources(
    place,
    kinds.map((kind) => ({ box: name, kind })),
    emit,
    signal,
  );
}
