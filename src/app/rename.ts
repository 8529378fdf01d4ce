import type { RunResult } from '../agent/protocol.ts';
import { reconcile } from '../plan/reconcile.ts';
import { observe } from '../state/observe.ts';
import { readState } from '../state/store.ts';
import { load } from './place.ts';
import { type RunOptions, viaAgent } from './run.ts';

/** `tsv rename`. @throws TSV_UNKNOWN_MACHINE, TSV_NOT_RUNNING, TSV_USAGE where it runs or the Tsfile says otherwise */
export async function renameMachine(
  options: Omit<RunOptions, 'targets' | 'parallel'> & { readonly from: string; readonly to: string },
): Promise<RunResult> {
  const { from, to } = options;
  const project = await load(options.place);
  const state = readState(project.dir);
  // No agent is started for what it would refuse.
  reconcile({ command: 'rename', wanted: project, observation: observe(state), from, to });
  return viaAgent({ ...options, targets: [], parallel: 1 }, project.dir, project.name, {
    command: 'rename',
    project,
    from,
    to,
  });
}
