import { isUnchanged } from '../config/fingerprint.ts';
import { TsvError, toTsvError } from '../model/errors.ts';
import type { ProvisionStep } from '../model/project.ts';
import type { ProvisionCache } from '../store/cache/cache.ts';
import { unlessAborted } from '../sys/unless-aborted.ts';
import type { ActionContext } from './action-context.ts';
import type { Records } from './records.ts';

export type LayerCache = Pick<ProvisionCache, 'keys' | 'use' | 'save' | 'forget'>;

/** Keeps what steps have made of machines, as long as nothing else has changed those since they were made. */
export class KeptSteps {
  private readonly cache: LayerCache;
  private readonly leave: (machine: string) => Promise<void>;
  /** Machines that are new, and are what their steps have made of them. */
  private readonly pure = new Set<string>();

  /** @param leave closes the way into a machine; who needs it opens it again */
  constructor(cache: LayerCache, leave: (machine: string) => Promise<void>) {
    this.cache = cache;
    this.leave = leave;
  }

  /** It has just been made. */
  begin(machine: string): void {
    this.pure.add(machine);
  }

  /** Somebody is in it, and may change what he likes. */
  touched(machine: string): void {
    this.pure.delete(machine);
  }

  /** Keeps a machine that runs, as it is after this step. What prevents it is told, and is no failure of the step. */
  async keep(
    records: Records,
    step: ProvisionStep,
    { name, key, anew }: { readonly name: string; readonly key: string; readonly anew: boolean },
    { emit, signal }: ActionContext,
  ): Promise<void> {
    const { spec, layers = [], startedAt } = records.of(name);
    const provider = records.providers[spec.kind];
    const save = provider.saveLayer?.bind(provider);
    if (save === undefined || !this.pure.has(name)) return;
    const context = records.context(name);
    try {
      if (!isUnchanged(step))
        throw new TsvError('TSV_CACHE', 'its script or files were changed on the host while it ran');
      await this.cache.save(key, {
        anew,
        lower: layers,
        project: records.state.projectDir,
        machine: name,
        step: step.name,
        signal,
        progress: (text) => emit({ type: 'notice', text }),
        fill: async (folder) => {
          emit({ type: 'notice', text: `keeping ${step.name} for the next machine` });
          // In the memory that is kept it would stay open for ever.
          await unlessAborted(this.leave(name), signal);
          await save(context, { folder, since: new Date(startedAt ?? 0), signal });
          if (!this.pure.has(name)) throw new TsvError('TSV_CACHE', 'somebody went into the machine meanwhile');
        },
      });
    } catch (error) {
      signal.throwIfAborted();
      this.pure.delete(name);
      const { message, details } = toTsvError(error);
      const why = [message, ...details].join(': ');
      emit({ type: 'notice', machine: name, text: `${step.name} is not cached, nor what comes after it: ${why}` });
    }
  }
}
