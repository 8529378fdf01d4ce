import { TsvError } from '../model/errors.ts';
import type { Plan } from '../model/plan.ts';
import { pushedPrefix, type SavedMachine, type Snapshot, snapshotName } from '../model/snapshot.ts';
import type { MachineState, Observation, State } from '../model/state.ts';
import { whySandbox } from './bring-up.ts';
import { PlanBuilder } from './builder.ts';
import { inDependencyOrder, resolveTargets } from './targets.ts';

export type SnapshotRequest =
  | {
      readonly command: 'snapshot save';
      readonly observation: Observation;
      readonly name: string;
      readonly targets: readonly string[];
      /** In the place of one of its name. */
      readonly replace: boolean;
      /** It is named by `push`. */
      readonly pushed: boolean;
    }
  | {
      readonly command: 'snapshot restore';
      readonly observation: Observation;
      readonly name: string;
      readonly targets: readonly string[];
      /** It is deleted afterwards. */
      readonly drop: boolean;
      /** See {@link SnapshotRestore}. */
      readonly disksOnly: boolean;
    }
  | {
      readonly command: 'snapshot delete';
      readonly observation: Observation;
      /** Names of snapshots. */
      readonly targets: readonly string[];
    };

/** What is asked for, without what is there. */
export type SnapshotCommand = SnapshotRequest extends infer One
  ? One extends SnapshotRequest
    ? Omit<One, 'observation'>
    : never
  : never;

/** @throws TSV_USAGE, TSV_UNKNOWN_MACHINE, TSV_SNAPSHOT for what cannot be saved or set back as it is */
export function planSnapshot(request: SnapshotRequest): Plan {
  switch (request.command) {
    case 'snapshot save':
      return planSave(request);
    case 'snapshot restore':
      return planRestore(request);
    case 'snapshot delete':
      return planDelete(request);
  }
}

type Request<Command> = Extract<SnapshotRequest, { readonly command: Command }>;

function planSave({ observation, name, targets, replace, pushed }: Request<'snapshot save'>): Plan {
  const { state, snapshots = [] } = observation;
  const records = Object.values(state?.machines ?? {});
  const lasting = records.map(({ spec }) => spec).filter(({ oneOff }) => oneOff !== true);
  requireName(name, lasting, pushed);
  if (!replace && snapshots.some((snapshot) => snapshot.name === name)) {
    throw new TsvError('TSV_USAGE', `there is a snapshot ${name} already`, {
      hint: `tsv snapshot save --force ${name}   # replaces it; or choose another name`,
    });
  }
  const machines = targets.length === 0 ? lasting.map((spec) => spec.name) : resolveTargets(targets, lasting);
  if (machines.length === 0) throw new TsvError('TSV_NOT_RUNNING', 'no machine exists yet', { hint: 'tsv up' });
  for (const machine of machines) {
    const why = whyNotNow(machine, observation);
    if (why !== undefined) throw why;
  }
  const plan = new PlanBuilder();
  plan.add({ do: 'snapshot.save', snapshot: name, machines, replace }, pushed ? 'push' : 'save');
  return plan.plan();
}

function requireName(name: string, machines: readonly { name: string; group: string }[], pushed: boolean): void {
  const refuse = (why: string, hint: string) =>
    new TsvError('TSV_USAGE', `${JSON.stringify(name)} is no name for a snapshot`, { details: [why], hint });
  if (!snapshotName.test(name))
    throw refuse(
      'letters, digits, dots, dashes and underscores, 63 at most, the first a letter or digit',
      'another name',
    );
  if (!pushed && name.startsWith(pushedPrefix))
    throw refuse(`names that begin with ${pushedPrefix} are those of tsv snapshot push`, 'another name');
  if (machines.some((machine) => machine.name === name || machine.group === name))
    throw refuse(`${name} is a machine`, `tsv snapshot save NAME ${name}   # the snapshot's name comes first`);
}

/** Why nothing of a machine can be saved now. */
function whyNotNow(name: string, { state, machines }: Observation): TsvError | undefined {
  const { restoring, suspended } = state?.machines[name] ?? {};
  const observed = machines[name];
  if (restoring !== undefined) return halfRestored(name, restoring);
  if (suspended?.memory === true)
    return new TsvError('TSV_SNAPSHOT', `${name} is suspended`, { hint: `tsv resume ${name}, then save it` });
  if (observed?.state !== 'broken') return undefined;
  return new TsvError('TSV_SNAPSHOT', `${name} is broken`, { details: observed.reasons, hint: `tsv up ${name}` });
}

/** Of a machine that is neither what it was nor what it is to be. */
export const halfRestored = (name: string, snapshot: string): TsvError =>
  new TsvError('TSV_SNAPSHOT', `${name} was being set back to ${snapshot} when that was cut short`, {
    details: ['its disks and files may be half of one time and half of another'],
    hint: `tsv snapshot restore ${snapshot} ${name}`,
  });

function planRestore({ observation, name, targets, drop, disksOnly }: Request<'snapshot restore'>): Plan {
  const snapshot = snapshotOf(observation, name);
  const { state } = observation;
  const saved = Object.values(snapshot.machines).map(({ spec }) => spec);
  const all = targets.length === 0 ? saved.map((spec) => spec.name) : resolveSaved(targets, snapshot);
  const problems = all.flatMap((machine) => whyNotBack(machine, snapshot, all, state));
  if (problems.length > 0) throw notRestored(name, problems);
  const plan = new PlanBuilder();
  const machines = inDependencyOrder(saved.filter((spec) => all.includes(spec.name)));
  const running = machines.filter((spec) => {
    const part = snapshot.machines[spec.name];
    return part !== undefined && part.was !== 'stopped' && !(part.memory && disksOnly);
  });
  const ground = addGround(plan, observation, running);
  const restored = plan.add(
    { do: 'snapshot.restore', snapshot: name, machines: machines.map((spec) => spec.name), disksOnly },
    `as of ${snapshot.at}`,
    ground,
  );
  const ready = new Map<string, number>();
  for (const spec of running) {
    const part = snapshot.machines[spec.name];
    const after = [restored, ...spec.dependsOn.map(({ machine }) => ready.get(machine))];
    const start =
      part?.memory === true ? after : [plan.add({ do: 'machine.start', machine: spec.name }, 'it ran then', after)];
    // Nobody can go into one that stands still.
    if (part?.was === 'paused' && part.memory) continue;
    ready.set(spec.name, plan.add({ do: 'machine.wait', machine: spec.name }, 'it ran then', start));
  }
  if (drop) plan.add({ do: 'snapshot.delete', snapshot: name }, 'pop', [restored, ...ready.values()]);
  return plan.plan();
}

function addGround(
  plan: PlanBuilder,
  observation: Observation,
  running: Snapshot['machines'][string]['spec'][],
): number[] {
  if (running.length === 0) return [];
  const why = whySandbox(observation);
  const sandbox = why === undefined ? undefined : plan.add({ do: 'sandbox.ensure' }, why);
  const present = Object.values(observation.state?.machines ?? {})
    .filter(({ spec }) => observation.sandboxAlive && observation.machines[spec.name]?.state === 'running')
    .flatMap(({ spec }) => spec.networks.map(({ network }) => network));
  const networks = new Set(running.flatMap((spec) => spec.networks.map(({ network }) => network)));
  return [
    ...(sandbox === undefined ? [] : [sandbox]),
    ...[...networks]
      .filter((network) => !present.includes(network))
      .map((network) => plan.add({ do: 'network.ensure', network }, 'machines run on it', [sandbox])),
  ];
}

export const notRestored = (name: string, problems: readonly string[]): TsvError =>
  new TsvError('TSV_SNAPSHOT', `the snapshot ${name} cannot be restored here and now; nothing was changed`, {
    details: problems,
    ...(problems.some((problem) => problem.includes('its memory'))
      ? { hint: `tsv snapshot restore --disks-only ${name}   # without memory, as after a power cut` }
      : {}),
  });

/** Why a machine of a snapshot cannot become what it was; pure: what disks and files say is asked later. */
function whyNotBack(
  name: string,
  snapshot: Snapshot,
  chosen: readonly string[],
  state: State | undefined,
): readonly string[] {
  const saved = snapshot.machines[name];
  const record = state?.machines[name];
  if (saved === undefined || state === undefined || record === undefined) return [`${name} does not exist any more`];
  if (record.spec.kind !== saved.spec.kind) return [`${name} is a ${record.spec.kind} now`];
  if (record.boxDigest !== saved.boxDigest)
    return [`${name} is made from another ${saved.spec.image ? 'image' : 'box'} now`];
  const gone = (saved.spec.volumes ?? []).filter((volume) => state.volumes?.[volume.name] === undefined);
  return [
    ...gone.map((volume) => `${name} had the volume ${volume.name}, which is not there any more`),
    ...saved.addresses.flatMap((one) => whyNotThere(name, one, chosen, snapshot, state)),
  ];
}

function whyNotThere(
  name: string,
  { network, address }: SavedMachine['addresses'][number],
  chosen: readonly string[],
  snapshot: Snapshot,
  state: State,
): readonly string[] {
  const now = state.networks[network];
  if (now === undefined) return [`${name} was on the network ${network}, which is not there any more`];
  if (!isInside(address, now.subnet))
    return [`${name} had the address ${address}, and ${network} is ${now.subnet} now`];
  const has = (others: Readonly<Record<string, Pick<MachineState, 'addresses'>>>, other: string) =>
    others[other]?.addresses.some((one) => one.network === network && one.address === address) === true;
  const taken = Object.keys(state.machines).find(
    (other) => other !== name && has(chosen.includes(other) ? snapshot.machines : state.machines, other),
  );
  return taken === undefined ? [] : [`${name} had the address ${address}, which ${taken} has now`];
}

const asNumber = (address: string): number => address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);

/** Of IPv4. */
function isInside(address: string, subnet: string): boolean {
  const [base = '', prefix = '32'] = subnet.split('/');
  const size = 2 ** (32 - Number(prefix));
  return Math.floor(asNumber(address) / size) === Math.floor(asNumber(base) / size);
}

function resolveSaved(targets: readonly string[], { name, machines }: Snapshot): readonly string[] {
  const specs = Object.values(machines).map(({ spec }) => spec);
  const missing = targets.filter((target) => !specs.some((spec) => spec.name === target || spec.group === target));
  if (missing.length === 0) return resolveTargets(targets, specs);
  throw new TsvError('TSV_UNKNOWN_MACHINE', `the snapshot ${name} has no ${missing.join(', ')}`, {
    details: [`its machines: ${specs.map((spec) => spec.name).join(', ')}`],
    hint: 'tsv snapshot list',
  });
}

function planDelete({ observation, targets }: Request<'snapshot delete'>): Plan {
  const plan = new PlanBuilder();
  for (const name of new Set(targets)) {
    snapshotOf(observation, name);
    const half = Object.values(observation.state?.machines ?? {}).find(({ restoring }) => restoring === name);
    if (half !== undefined) throw halfRestored(half.spec.name, name);
    plan.add({ do: 'snapshot.delete', snapshot: name }, 'delete');
  }
  return plan.plan();
}

/** @throws TSV_USAGE with what there is */
function snapshotOf({ snapshots = [] }: Observation, name: string): Snapshot {
  const found = snapshots.find((snapshot) => snapshot.name === name);
  if (found !== undefined) return found;
  const names = snapshots.map((snapshot) => snapshot.name);
  throw new TsvError('TSV_USAGE', `this project has no snapshot ${name}`, {
    details: names.length === 0 ? ['it has none at all'] : [`its snapshots: ${names.join(', ')}`],
    hint: names.length === 0 ? 'tsv snapshot save' : 'tsv snapshot list',
  });
}
