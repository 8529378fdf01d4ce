import { join } from 'node:path';
import { boxKey } from '../agent/machines.ts';
import type { Emit } from '../model/events.ts';
import type { Plan } from '../model/plan.ts';
import type { MachineKind } from '../model/project.ts';
import { execute, executionError } from '../plan/execute.ts';
import { storeDir } from '../state/paths.ts';
import { ensureBox, listBoxes } from '../store/box/index.ts';
import { readUserMap } from '../sys/userns.ts';
import { type Place, packageDir } from './place.ts';

const boxesDir = (): string => join(packageDir(), 'boxes');

export const boxList = async (place: Place) => listBoxes(boxesDir(), storeDir(place.env), readUserMap());

/** Builds the parts of a box that the store does not have; the digest of each part, by kind. */
export async function buildBox(
  place: Place,
  name: string,
  kinds: readonly MachineKind[],
  emit: Emit,
  signal: AbortSignal,
): Promise<Record<string, string>> {
  return ensureBoxes(
    place,
    kinds.map((kind) => ({ box: name, kind })),
    emit,
    signal,
  );
}

/** Boxes belong to the user, not to a project. Silent about those that are in the store; the others are built, one after the other. */
export async function ensureBoxes(
  place: Place,
  wanted: readonly { box: string; kind: MachineKind }[],
  emit: Emit,
  signal: AbortSignal,
): Promise<Record<string, string>> {
  const common = { boxesDir: boxesDir(), store: storeDir(place.env), map: readUserMap(), signal };
  const plan: Plan = {
    nodes: wanted.map(({ box, kind }, i) => ({
      id: i + 1,
      action: { do: 'box.ensure', box, kind },
      cause: 'not in the store',
      after: i === 0 ? [] : [i],
    })),
  };
  const digests: Record<string, string> = {};
  let announced = false;
  const result = await execute(plan, {
    parallel: 1,
    signal,
    journal: () => {},
    emit: (event) => {
      if (announced) emit(event);
    },
    run: async ({ id, action }, step) => {
      if (action.do !== 'box.ensure') return;
      const progress = (text: string) => {
        if (!announced) {
          announced = true;
          emit({ type: 'plan', plan });
          emit({ type: 'step.start', id });
        }
        step.progress(text);
      };
      const box = await ensureBox({ ...common, name: action.box, kind: action.kind, progress });
      digests[boxKey(action.box, action.kind)] = box.digest;
    },
  });
  const error = executionError(result);
  if (error !== undefined) throw error;
  return digests;
}
