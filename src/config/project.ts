import { basename } from 'node:path';
import type { Machine, Network, Project, Volume } from '../model/project.ts';
import { machineNames } from './checks.ts';
import type { MachineDraft } from './machines.ts';
import { blockText, defaultNetwork, type NetworkDraft } from './networks.ts';

/** Drafts without mistakes, turned into the project: replicas expanded, the default network added if it is used. */
export function buildProject(
  base: Pick<Project, 'name' | 'dir' | 'file' | 'digest'>,
  drafts: readonly MachineDraft[],
  networks: ReadonlyMap<string, NetworkDraft>,
  volumes: readonly Volume[],
): Project {
  const namesOf = new Map(drafts.map((draft) => [draft.name, machineNames(draft)]));
  const machines = drafts.flatMap((draft) => machineNames(draft).map((name) => buildMachine(name, draft, namesOf)));
  const declared: Network[] = [...networks.values()].map(({ name, mode, subnet }) => ({
    name,
    mode,
    ...(subnet === undefined ? {} : { subnet: blockText(subnet.value) }),
  }));
  const usesDefault = machines.some((machine) => machine.networks.some(({ network }) => network === defaultNetwork));
  const implied: Network[] =
    usesDefault && !networks.has(defaultNetwork) ? [{ name: defaultNetwork, mode: 'nat' }] : [];
  return {
    ...base,
    networks: [...declared, ...implied],
    ...(volumes.length === 0 ? {} : { volumes: volumes.map(({ name, keep }) => ({ name, keep })) }),
    machines,
  };
}

export function buildMachine(
  name: string,
  draft: MachineDraft,
  namesOf: ReadonlyMap<string, readonly string[]>,
): Machine {
  return {
    ...draft.common,
    name,
    hostname: draft.hostname?.value ?? name,
    networks: draft.networks.map(({ network, address }) => ({
      network: network.value,
      ...(address === undefined ? {} : { address: address.value }),
    })),
    forwards: draft.forwards.map(({ value }) => value),
    dependsOn: draft.dependsOn.flatMap(({ group, condition }) =>
      (namesOf.get(group.value) ?? []).map((machine) => ({ machine, condition: condition.value })),
    ),
  };
}

/** A DNS label made from a folder's name: `My Shop (2)` becomes `my-shop-2`. */
export function projectNameOf(dir: string): string {
  const name = basename(dir)
    .normalize('NFKD')
    .toLowerCase()
    .replace(/\p{M}/gu, '')
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, 63)
    .replace(/^-+|-+$/g, '');
  return name === '' ? 'project' : name;
}
