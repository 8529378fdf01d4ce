import { TsvError } from '../model/errors.ts';
import type { Plan } from '../model/plan.ts';
import type { Project } from '../model/project.ts';
import type { Observation } from '../model/state.ts';
import { PlanBuilder } from './builder.ts';
import { whyRecreate } from './changes.ts';
import { mayRun } from './take-down.ts';
import { notOne, resolveTargets } from './targets.ts';

/**
 * `rename`: of a machine that does not run, to a name that the Tsfile has in place of its own: else the next `up` would
 * destroy it, or make another one. @throws TSV_UNKNOWN_MACHINE, TSV_NOT_RUNNING (not made yet), TSV_USAGE
 */
export function planRename(wanted: Project, { state, machines }: Observation, from: string, to: string): Plan {
  const record = state?.machines[from];
  const made = Object.values(state?.machines ?? {}).map(({ spec }) => spec);
  if (record === undefined) throw notMade(wanted, made, from, 'what is only in the Tsfile is renamed there');
  if (from === to) throw new TsvError('TSV_USAGE', `${from} is its name already`);
  if (state?.machines[to] !== undefined) {
    throw new TsvError('TSV_USAGE', `${to} exists already`, {
      details: [`${from} would take its place`],
      hint: `tsv destroy ${to}   # if ${from} is to be ${to} from now on`,
    });
  }
  const machine = wanted.machines.find(({ name }) => name === to);
  const remains = wanted.machines.some(({ name }) => name === from);
  if (machine === undefined || remains) throw editFirst(wanted, from, to, { isThere: machine !== undefined, remains });
  const anew = whyRecreate(record.spec, machine);
  if (anew !== undefined) {
    throw new TsvError('TSV_USAGE', `${to} in the Tsfile is another machine than ${from}: ${anew}`, {
      details: ['the next tsv up would make it anew, without what is on its disks'],
      hint: `change nothing but the name in the Tsfile, then: tsv rename ${from} ${to}`,
    });
  }
  if (mayRun(machines[from])) {
    throw new TsvError('TSV_USAGE', `${from} is running, and what runs keeps its name`, {
      details: ['its hostname, its network and its processes have it'],
      hint: `tsv halt ${from}, then: tsv rename ${from} ${to}`,
    });
  }
  const plan = new PlanBuilder();
  plan.add({ do: 'machine.rename', machine: from, to }, 'renamed in the Tsfile');
  return plan.plan();
}

/** `hint`: what to do where the Tsfile has it, and nobody has made it. */
export function notMade(
  wanted: Project,
  made: Parameters<typeof resolveTargets>[1],
  from: string,
  hint: string,
): TsvError {
  if (wanted.machines.some(({ name, group }) => name === from || group === from) && !made.some((m) => m.group === from))
    return new TsvError('TSV_NOT_RUNNING', `${from} does not exist yet`, { hint });
  return notOne(from, resolveTargets([from], made));
}

function editFirst(
  wanted: Project,
  from: string,
  to: string,
  { isThere, remains }: { readonly isThere: boolean; readonly remains: boolean },
): TsvError {
  return new TsvError('TSV_USAGE', `the Tsfile does not say ${to} in place of ${from}`, {
    details: [
      ...(isThere ? [] : [`${to} is not in it`]),
      ...(remains ? [`${from} is still in it`] : []),
      `its machines: ${wanted.machines.map(({ name }) => name).join(', ')}`,
    ],
    hint: `write ${to} for ${from} in ${wanted.file}, also where depends_on names it, then: tsv rename ${from} ${to}`,
  });
}
