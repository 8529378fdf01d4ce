import { TsvError } from '../model/errors.ts';
import type { Plan } from '../model/plan.ts';
import type { Machine, Project } from '../model/project.ts';
import type { MachineState, Observation } from '../model/state.ts';
import { PlanBuilder } from './builder.ts';
import { whyOtherImage, whyRecreate } from './changes.ts';
import { notMade } from './rename.ts';
import { halfRestored } from './snapshots.ts';
import { mayRun } from './take-down.ts';

/**
 * `clone`: a copy of a machine that does not run, under a name that stands in the Tsfile and is not made yet.
 * @throws TSV_UNKNOWN_MACHINE, TSV_NOT_RUNNING (not made yet), TSV_SNAPSHOT (half set back), TSV_USAGE
 */
export function planClone(wanted: Project, { state, machines }: Observation, from: string, to: string): Plan {
  const record = state?.machines[from];
  const made = Object.values(state?.machines ?? {}).map(({ spec }) => spec);
  if (record === undefined) throw notMade(wanted, made, from, `tsv up ${from}`);
  if (from === to) throw new TsvError('TSV_USAGE', `${from} cannot be a copy of itself`);
  if (state?.machines[to] !== undefined) {
    throw new TsvError('TSV_USAGE', `${to} exists already`, {
      hint: `tsv destroy ${to}   # if a copy of ${from} is to be in its place`,
    });
  }
  const machine = wanted.machines.find(({ name }) => name === to);
  if (machine === undefined) throw editFirst(wanted, from, to);
  const differs = whyNoCopy(record, machine);
  if (differs !== undefined) {
    throw new TsvError('TSV_USAGE', `${to} in the Tsfile cannot be a copy of ${from}: ${differs}`, {
      details: ['kind, box or image have to be the same, and disks at least as large'],
      hint: `write ${to} as ${from} is in ${wanted.file}; addresses, forwards, memory and CPUs may differ`,
    });
  }
  if (record.restoring !== undefined) throw halfRestored(from, record.restoring);
  if (mayRun(machines[from])) {
    throw new TsvError('TSV_USAGE', `${from} is running, and what runs is not copied`, {
      details: ['what it has not written to its disks yet would be missing'],
      hint: `tsv halt ${from}, then: tsv clone ${from} ${to}`,
    });
  }
  if (record.suspended?.memory === true) {
    throw new TsvError('TSV_USAGE', `${from} is suspended, and its disks alone are as after a power cut`, {
      hint: `tsv resume ${from} && tsv halt ${from}, then: tsv clone ${from} ${to}`,
    });
  }
  const plan = new PlanBuilder();
  plan.add({ do: 'machine.clone', machine: to, from }, `a copy of ${from}`);
  return plan.plan();
}

/** What the next `up` would make anew, or could not start. Pure. */
function whyNoCopy(record: MachineState, machine: Machine): string | undefined {
  return whyRecreate(record.spec, machine) ?? whyOtherImage(record, machine) ?? whySmaller(record.spec, machine);
}

const whySmaller = ({ disks: before }: Machine, { disks }: Machine): string | undefined =>
  before.flatMap(({ name, sizeBytes }) =>
    disks.some((disk) => disk.name === name && disk.sizeBytes < sizeBytes) ? [`disk ${name} shrunk`] : [],
  )[0];

const editFirst = (wanted: Project, from: string, to: string): TsvError =>
  new TsvError('TSV_USAGE', `${to} is not in the Tsfile`, {
    details: [`its machines: ${wanted.machines.map(({ name }) => name).join(', ')}`],
    hint: `write ${to} beside ${from} in ${wanted.file}, then: tsv clone ${from} ${to}`,
  });
