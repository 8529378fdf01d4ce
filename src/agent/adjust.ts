import { TsvError } from '../model/errors.ts';
import type { MachineHappening } from '../model/machine-event.ts';
import type { Machine } from '../model/project.ts';
import type { MachineContext, Provider } from '../model/provider.ts';
import type { MachineState } from '../model/state.ts';
import { changedLimits, withLimits } from '../plan/changes.ts';
import { isAlive } from '../sys/process.ts';

export interface Adjusting {
  readonly provider: Provider;
  record(): MachineState;
  context(): MachineContext;
  update(change: (record: MachineState) => MachineState): Promise<unknown>;
  notice(text: string): void;
  happened(event: MachineHappening): void;
}

/**
 * Gives a machine that runs the limits of `wanted`, and remembers them once they are in force; one that has ended meanwhile
 * gets them at its next start. @throws TSV_CGROUP; limits and record are as before then
 */
export async function adjustMachine(
  wanted: Machine,
  { provider, record, context, update, notice, happened }: Adjusting,
): Promise<void> {
  const { spec, process } = record();
  if (isAlive(process)) {
    if (provider.adjust === undefined) throw new TsvError('TSV_INTERNAL', `${spec.name} takes nothing over as it runs`);
    await provider.adjust(context(), wanted, notice);
  }
  await update((current) => ({ ...current, spec: withLimits(current.spec, wanted) }));
  happened({ type: 'adjusted', limits: changedLimits(spec, wanted) });
}
