import type { MachineHappening } from '../model/machine-event.ts';
import type { Machine } from '../model/project.ts';
import type { MachineContext, Provider } from '../model/provider.ts';
import type { MachineState } from '../model/state.ts';
import { changedLimits, withLimits } from '../plan/changes.ts';
import { isAlive } from '../sys/process.ts';
import { requireUsable } from './machines.ts';

export interface Adjusting {
  readonly provider: Pick<Provider, 'adjust'>;
  readonly signal: AbortSignal;
  record(): MachineState;
  context(): MachineContext;
  update(change: (record: MachineState) => MachineState): Promise<unknown>;
  notice(text: string): void;
  happened(event: MachineHappening): void;
}

/**
 * Gives a machine that runs the limits of `wanted`, and remembers them once they are in force; one that has ended meanwhile
 * gets them at its next start. @throws TSV_NOT_RUNNING for a paused virtual machine, and what {@link Provider.adjust} throws
 */
export async function adjustMachine(
  wanted: Machine,
  { provider, signal, record, context, update, notice, happened }: Adjusting,
): Promise<void> {
  const { spec, process } = record();
  if (isAlive(process)) {
    if (spec.kind === 'vm') requireUsable(record()); // its system has to take part
    await provider.adjust(context(), wanted, signal, notice);
  }
  await update((current) => ({ ...current, spec: withLimits(current.spec, wanted) }));
  happened({ type: 'adjusted', limits: changedLimits(spec, wanted) });
}
