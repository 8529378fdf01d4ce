import { TsvError } from '../model/errors.ts';

/** The part of a machine that choosing and ordering need; a `Machine` is one. */
export interface Node {
  readonly name: string;
  readonly group: string;
  readonly dependsOn: readonly { readonly machine: string }[];
}

/**
 * The machines that names on the command line mean, in the order of `machines`. A group's name means all its replicas.
 * @throws TSV_UNKNOWN_MACHINE naming every unknown one
 */
export function resolveTargets(targets: readonly string[], machines: readonly Node[]): readonly string[] {
  const known = (target: string) => machines.some(({ name, group }) => name === target || group === target);
  const unknown = targets.filter((target) => !known(target));
  if (unknown.length > 0) {
    const names = [...new Set(machines.flatMap(({ name, group }) => [group, name]))];
    throw new TsvError('TSV_UNKNOWN_MACHINE', `no machine of this project is named ${unknown.join(', ')}`, {
      details: names.length === 0 ? ['the project has no machines'] : [`its machines: ${names.join(', ')}`],
      hint: 'tsv status lists them',
    });
  }
  return machines
    .filter(({ name, group }) => targets.includes(name) || targets.includes(group))
    .map(({ name }) => name);
}

/** For what is done to one machine: a name that means several of them, or one of another name. */
export const notOne = (target: string, names: readonly string[]): TsvError =>
  new TsvError('TSV_UNKNOWN_MACHINE', `${target} is ${names.length} machines: ${names.join(', ')}`, {
    hint: 'name one of them',
  });

/** `names` and everything that they depend on, directly or not. */
export function withDependencies(names: Iterable<string>, machines: readonly Node[]): ReadonlySet<string> {
  const byName = new Map(machines.map((machine) => [machine.name, machine]));
  const all = new Set<string>();
  const waiting = [...names];
  for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
    if (all.has(name)) continue;
    all.add(name);
    waiting.push(...(byName.get(name)?.dependsOn ?? []).map(({ machine }) => machine));
  }
  return all;
}

/**
 * Dependencies before dependents, otherwise in the given order. Tolerates a cycle (a state of machines that were
 * brought up by different versions of a Tsfile may hold one): one of its edges is then not respected.
 */
export function inDependencyOrder<T extends Node>(machines: readonly T[]): readonly T[] {
  const byName = new Map(machines.map((machine) => [machine.name, machine]));
  const seen = new Set<string>();
  const ordered: T[] = [];
  const visit = (machine: T): void => {
    if (seen.has(machine.name)) return;
    seen.add(machine.name);
    for (const dependency of machine.dependsOn) {
      const other = byName.get(dependency.machine);
      if (other !== undefined) visit(other);
    }
    ordered.push(machine);
  };
  for (const machine of machines) visit(machine);
  return ordered;
}
