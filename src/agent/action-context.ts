import { TsvError } from '../model/errors.ts';
import type { Emit } from '../model/events.ts';
import type { Machine, MachineKind, Project } from '../model/project.ts';
import type { Measure } from '../model/timings.ts';
import { boxKey } from './machines.ts';

/** What one action needs besides its names. */
export interface ActionContext {
  /** Absent for halt and destroy of what is only in the state. */
  readonly project: Project | undefined;
  /** Digests of the boxes for machines that are to be created, by {@link boxKey}. */
  readonly boxes: Readonly<Record<string, string>>;
  readonly force: boolean;
  /** How long a machine may take to stop; absent: its own time. */
  readonly stopTimeoutMs?: number;
  readonly emit: Emit;
  /** Told of parts of the action, where somebody wants to know. */
  readonly measured?: Measure;
  readonly signal: AbortSignal;
}

/** Of what no command has asked for. */
export const byItself = (signal: AbortSignal): ActionContext => ({
  project: undefined,
  boxes: {},
  force: false,
  emit: () => {},
  signal,
});

/** The machine as the Tsfile has it; undefined: it does not, or nobody has read it. */
export const machineOf = (project: Project | undefined, name: string): Machine | undefined =>
  project?.machines.find((machine) => machine.name === name);

export function wantedMachine(name: string, { project }: ActionContext): Machine {
  const machine = machineOf(project, name);
  if (machine === undefined) throw new TsvError('TSV_INTERNAL', `${name} is not in the Tsfile`);
  return machine;
}

export function wantedBox(box: string, kind: MachineKind, context: ActionContext): string {
  const digest = context.boxes[boxKey(box, kind)];
  if (digest === undefined) throw new TsvError('TSV_INTERNAL', `nobody has resolved the box ${boxKey(box, kind)}`);
  return digest;
}
