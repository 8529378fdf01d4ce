import { boxKey } from '../agent/machines.ts';
import { TsvError } from '../model/errors.ts';
import type { Emit } from '../model/events.ts';
import type { Digest, StoredImage } from '../model/image.ts';
import type { Action, Plan } from '../model/plan.ts';
import type { MachineKind } from '../model/project.ts';
import { execute, executionError } from '../plan/execute.ts';
import { storeDir } from '../state/paths.ts';
import { readUserMap } from '../sys/userns.ts';
import { boxesDir, builtFile, type Place } from './place.ts';

/** What a machine is made from. */
export type Source =
  | { readonly box: string; readonly kind: MachineKind }
  /** A reference in full; `digest`: of the lock file. */
  | { readonly image: string; readonly digest?: Digest };

export interface EnsuredSources {
  /** Digests by {@link boxKey}, of boxes and of images. */
  readonly digests: Readonly<Record<string, string>>;
  /** By reference in full. */
  readonly images: ReadonlyMap<string, StoredImage>;
}

/** Images are pulled at the same time, as their layers are; boxes are built one after the other. */
const parallel = 3;

/**
 * Boxes and images belong to the user, not to a project. Silent about those that are in the store; the others are built
 * and pulled.
 */
export async function ensureSources(
  place: Place,
  wanted: readonly Source[],
  emit: Emit,
  signal: AbortSignal,
): Promise<EnsuredSources> {
  const plan = sourcesPlan(wanted);
  const digests: Record<string, string> = {};
  const images = new Map<string, StoredImage>();
  const common = { store: storeDir(place.env), map: readUserMap(), signal };
  const begun = new Set<number>();
  let announced = false;
  const announce = (): void => {
    if (announced) return;
    announced = true;
    emit({ type: 'plan', plan });
    for (const id of begun) emit({ type: 'step.start', id });
  };
  const result = await execute(plan, {
    parallel,
    signal,
    journal: () => {},
    emit: (event) => {
      if (event.type === 'step.start') begun.add(event.id);
      if (announced) emit(event);
      else if (event.type === 'step.end') begun.delete(event.id);
    },
    run: async ({ action }, step) => {
      const progress = (text: string) => {
        announce();
        step.progress(text);
      };
      if (action.do === 'box.ensure') {
        const { ensureBox } = await import('../store/box/index.ts');
        const { digest } = await ensureBox({
          ...common,
          boxesDir: boxesDir(),
          name: action.box,
          kind: action.kind,
          progress,
        });
        digests[boxKey(action.box, action.kind)] = digest;
      } else if (action.do === 'image.ensure') {
        const { pullImage } = await import('../store/image/pull.ts');
        const digest = wanted.flatMap((source) =>
          'image' in source && source.image === action.image ? [source.digest] : [],
        )[0];
        const image = await pullImage(action.image, {
          ...common,
          env: place.env,
          progress,
          notice: (text) => emit({ type: 'notice', text }),
          unpackProgram: builtFile('parts/unpack.js'),
          ...(digest === undefined ? {} : { digest }),
        }).catch((error: unknown) => withBoxMeant(error, action.image));
        images.set(action.image, image);
        digests[boxKey(action.image, 'container')] = image.digest;
      }
    },
  });
  const error = executionError(result);
  if (error !== undefined) throw error;
  return { digests, images };
}

function sourcesPlan(wanted: readonly Source[]): Plan {
  const actions = wanted.map(
    (source): Action =>
      'image' in source ? { do: 'image.ensure', image: source.image } : { do: 'box.ensure', ...source },
  );
  return {
    nodes: actions.map((action, i) => {
      const before =
        action.do === 'box.ensure' ? actions.slice(0, i).findLastIndex((other) => other.do === 'box.ensure') : -1;
      return { id: i + 1, action, cause: 'not in the store', after: before === -1 ? [] : [before + 1] };
    }),
  };
}

/** What no registry gives may be a box's name with a slip in it. */
export async function withBoxMeant(error: unknown, reference: string): Promise<never> {
  const codes = ['TSV_IMAGE_UNKNOWN', 'TSV_REGISTRY', 'TSV_REGISTRY_LOGIN', 'TSV_DOWNLOAD'];
  if (!(error instanceof TsvError) || !codes.includes(error.code)) throw error;
  const [{ boxMeantBy }, { recipeNames }] = await Promise.all([
    import('../config/index.ts'),
    import('../store/box/names.ts'),
  ]);
  const box = boxMeantBy(reference, recipeNames(boxesDir()));
  if (box === undefined) throw error;
  throw new TsvError(error.code, error.message, {
    details: error.details,
    hint: [`did you mean the box \`${box}\`?`, ...(error.hint === undefined ? [] : [error.hint])].join('\n'),
    exitCode: error.exitCode,
    cause: error,
  });
}
