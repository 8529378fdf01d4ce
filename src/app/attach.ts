import { endingCode } from '../model/ending.ts';
import type { MachineKind } from '../model/project.ts';
import { observe } from '../state/observe.ts';
import { readState } from '../state/store.ts';
import { runningMachine } from './machine.ts';
import type { Place } from './place.ts';

export interface Attachable {
  readonly kind: MachineKind;
  /** Of a container whose output is over: what it ended with, 0 when it was stopped by a command. */
  exitCode(): number;
}

/** A machine that runs. @throws TSV_UNKNOWN_MACHINE, TSV_NOT_RUNNING */
export async function attachable(place: Place, name: string): Promise<Attachable> {
  const { projectDir, record } = await runningMachine(place, name);
  return {
    kind: record.spec.kind,
    exitCode() {
      const observed = observe(readState(projectDir)).machines[name];
      return observed?.state === 'stopped' && observed.ended !== undefined ? endingCode(observed.ended) : 0;
    },
  };
}
