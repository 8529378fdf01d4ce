import type { RunResult } from '../agent/protocol.ts';
import { reconcile } from '../plan/reconcile.ts';
import { observe } from '../state/observe.ts';
import { readState } from '../state/store.ts';
import { loadLocked } from './lock.ts';
import { type RunOptions, viaAgent } from './run.ts';

/** `tsv clone`. @throws TSV_UNKNOWN_MACHINE, TSV_NOT_RUNNING, TSV_USAGE where it runs or the Tsfile says otherwise, TSV_CLONE */
export async function cloneMachine(
  options: Omit<RunOptions, 'targets' | 'parallel'> & { readonly from: string; readonly to: string },
): Promise<RunResult> {
  const { from, to, emit } = options;
  const { project } = await loadLocked(options.place);
  const command = { command: 'clone', from, to } as const;
  // No agent is started for what it would refuse.
  reconcile({ ...command, wanted: project, observation: observe(readState(project.dir)) });
  const all = { ...options, targets: [], parallel: 1 };
  const result = await viaAgent(all, project.dir, project.name, { ...command, project });
  emit({ type: 'notice', text: `tsv up ${to} starts it` });
  return result;
}
