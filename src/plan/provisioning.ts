import { TsvError } from '../model/errors.ts';
import type { Machine, ProvisionStep } from '../model/project.ts';
import type { MachineState } from '../model/state.ts';

/** `up`: true runs what is due, false nothing (`--no-provision`), 'force' also what was done before (`--provision`). */
export type ProvisionMode = boolean | 'force';

export interface DueStep {
  readonly name: string;
  readonly cause: string;
  /** It need not run: the machine is made from its layer. */
  readonly cached?: boolean;
  /** The key that what it makes is kept under; `anew`: in the place of what is there. */
  readonly layer?: string;
  readonly anew?: boolean;
}

/** The steps that `up` runs, in the order of the Tsfile. `record` is undefined for a machine that is made anew. */
export function dueSteps(machine: Machine, record: MachineState | undefined, mode: ProvisionMode): readonly DueStep[] {
  if (mode === false) return [];
  return machine.provision.flatMap((step) => {
    const cause =
      step.run === 'never' ? undefined : (whyDue(step, record) ?? (mode === 'force' ? 'forced' : undefined));
    return cause === undefined ? [] : [{ name: step.name, cause }];
  });
}

function whyDue(step: ProvisionStep, record: MachineState | undefined): string | undefined {
  const done = record?.steps[step.name];
  if (step.run === 'always') return 'runs always';
  if (done === undefined) return 'not done';
  return step.run === 'on-change' && done.fingerprint !== step.fingerprint ? 'changed' : undefined;
}

/** The steps that `tsv provision` runs: all of them, or the one named by `--only`. */
export function askedSteps(machine: Machine, only: string | undefined): readonly DueStep[] {
  return machine.provision
    .filter((step) => only === undefined || step.name === only)
    .map((step) => ({ name: step.name, cause: 'asked for' }));
}

/** @throws TSV_USAGE when none of the machines has a step of this name */
export function checkStepName(only: string, machines: readonly Machine[]): void {
  const names = new Set(machines.flatMap((machine) => machine.provision.map((step) => step.name)));
  if (names.has(only)) return;
  throw new TsvError(
    'TSV_USAGE',
    `no provisioning step of ${machines.map(({ name }) => name).join(', ')} is named ${only}`,
    {
      details: [names.size === 0 ? 'there are no steps' : `steps: ${[...names].join(', ')}`],
    },
  );
}
