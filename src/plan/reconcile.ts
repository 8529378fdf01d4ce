import type { Plan } from '../model/plan.ts';
import type { Project } from '../model/project.ts';
import type { Observation } from '../model/state.ts';
import { bringUp } from './bring-up.ts';
import type { CacheView } from './cache.ts';
import { planClone } from './clone.ts';
import { planRun } from './one-off.ts';
import { planPause } from './pause.ts';
import { planProvision } from './plan-provision.ts';
import type { ProvisionMode } from './provisioning.ts';
import { planRename } from './rename.ts';
import { planRestart } from './restart.ts';
import { planSnapshot, type SnapshotRequest } from './snapshots.ts';
import { planResume, planSuspend } from './suspend.ts';
import { takeDown } from './take-down.ts';
import { removeVolumes } from './volumes.ts';

/** A command with what is wanted and what is there. `targets`: machine or group names; absent or empty: all. */
export type ReconcileRequest =
  | SnapshotRequest
  | {
      readonly command: 'up' | 'reload';
      readonly wanted: Project;
      readonly observation: Observation;
      readonly targets?: readonly string[];
      /** `wait`: absent: true. */
      readonly options?: { readonly provision?: ProvisionMode; readonly wait?: boolean; readonly cache?: CacheView };
    }
  | {
      readonly command: 'provision';
      readonly wanted: Project;
      readonly observation: Observation;
      readonly targets?: readonly string[];
      /** `only`: the name of one step. `forget`: new machines run what runs here, too, instead of taking it from the cache. */
      readonly options?: { readonly only?: string; readonly forget?: boolean };
    }
  | {
      /** `target`: the one machine of `wanted` that is to run. */
      readonly command: 'run';
      readonly wanted: Project;
      readonly observation: Observation;
      readonly targets?: undefined;
      readonly target: string;
    }
  | {
      readonly command: 'restart' | 'pause' | 'unpause' | 'suspend' | 'resume';
      readonly observation: Observation;
      readonly targets?: readonly string[];
    }
  | {
      readonly command: 'volume rm';
      readonly observation: Observation;
      /** Names of volumes. */
      readonly targets: readonly string[];
    }
  | {
      readonly command: 'rename' | 'clone';
      readonly wanted: Project;
      readonly observation: Observation;
      readonly targets?: undefined;
      readonly from: string;
      readonly to: string;
    }
  | {
      readonly command: 'halt' | 'destroy';
      /** Only lets names of machines that do not exist yet pass as targets; the work itself follows the state. */
      readonly wanted: Project | undefined;
      readonly observation: Observation;
      readonly targets?: readonly string[];
    };

/**
 * What has to be done, as data. Pure: the same request gives the same plan, ids included.
 * @throws TSV_UNKNOWN_MACHINE, TSV_NOT_RUNNING (`provision`), TSV_IN_USE (`volume rm`), TSV_USAGE
 */
export function reconcile(request: ReconcileRequest): Plan {
  const targets = request.targets ?? [];
  switch (request.command) {
    case 'up':
    case 'reload':
      return bringUp(request.wanted, request.observation, {
        targets,
        reload: request.command === 'reload',
        provision: request.options?.provision ?? true,
        wait: request.options?.wait ?? true,
        ...(request.options?.cache === undefined ? {} : { cache: request.options.cache }),
      });
    case 'provision':
      return planProvision(request.wanted, request.observation, targets, request.options ?? {});
    case 'run':
      return planRun(request.wanted, request.observation, request.target);
    case 'restart':
      return planRestart(request.observation, targets);
    case 'pause':
    case 'unpause':
      return planPause(request.command, request.observation, targets);
    case 'snapshot save':
    case 'snapshot restore':
    case 'snapshot delete':
      return planSnapshot(request);
    case 'suspend':
      return planSuspend(request.observation, targets);
    case 'resume':
      return planResume(request.observation, targets);
    case 'volume rm':
      return removeVolumes(request.observation, targets);
    case 'clone':
      return planClone(request.wanted, request.observation, request.from, request.to);
    case 'rename':
      return planRename(request.wanted, request.observation, request.from, request.to);
    case 'halt':
    case 'destroy':
      return takeDown(request.command, request.wanted, request.observation, targets);
  }
}
