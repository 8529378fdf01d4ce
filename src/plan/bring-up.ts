import { TsvError } from '../model/errors.ts';
import type { Action, Plan } from '../model/plan.ts';
import type { Machine, Network, Project } from '../model/project.ts';
import type { MachineState, Observation } from '../model/state.ts';
import { addReady, gatesOf, type Ready } from './add-ready.ts';
import { PlanBuilder } from './builder.ts';
import { type CacheView, cachedSteps, withLayers } from './cache.ts';
import { claimsOf, type Fate, fateOf, isStarted, whyNetworkChanged } from './changes.ts';
import { refuseSmallerDisks } from './disks.ts';
import { followUp } from './follow-up.ts';
import { refuseLoss } from './loss.ts';
import type { ProvisionMode } from './provisioning.ts';
import { addStops, mayRun } from './take-down.ts';
import { inDependencyOrder, resolveTargets, withDependencies } from './targets.ts';
import { addVolumes } from './volumes.ts';

export interface BringUpOptions {
  readonly targets: readonly string[];
  /** Restart what runs. */
  readonly reload: boolean;
  readonly provision: ProvisionMode;
  /** false: only what other machines of the plan depend on is waited for and provisioned. */
  readonly wait: boolean;
  /** Absent: no machine is made from what steps of others have made, and nothing is kept. */
  readonly cache?: CacheView;
}

/**
 * `up` and `reload`. In this order: what must go (stops, destroys), the sandbox, networks, volumes, boxes, and then machine
 * after machine with dependencies first.
 */
export function bringUp(wanted: Project, observation: Observation, options: BringUpOptions): Plan {
  const situation = assess(wanted, observation, options);
  const plan = new PlanBuilder();
  const gone = addRemovals(plan, situation);
  const networks = addNetworks(plan, situation, gone);
  const volumes = addVolumes(plan, situation);
  addMachines(plan, situation, gone, { networks, volumes });
  return plan.plan();
}

/** Everything that the phases need to know, decided once. */
export interface Situation {
  readonly wanted: Project;
  readonly observation: Observation;
  readonly records: Readonly<Record<string, MachineState>>;
  /** Chosen machines with their dependencies, dependencies first. */
  readonly machines: readonly Machine[];
  readonly fates: ReadonlyMap<string, Fate>;
  /** Machines of the state that the Tsfile no longer has; empty when names were given. */
  readonly orphans: readonly Machine[];
  /** Networks of `machines`, and those of them that changed, with the cause. */
  readonly networks: readonly Network[];
  readonly changedNetworks: ReadonlyMap<string, string>;
  readonly orphanNetworks: readonly string[];
  readonly options: BringUpOptions;
}

function assess(wanted: Project, observation: Observation, options: BringUpOptions): Situation {
  const records = observation.state?.machines ?? {};
  const all = options.targets.length === 0;
  const named = new Set(
    all ? wanted.machines.map(({ name }) => name) : resolveTargets(options.targets, wanted.machines),
  );
  const chosen = withDependencies(named, wanted.machines);
  const machines = inDependencyOrder(wanted.machines.filter(({ name }) => chosen.has(name)));

  const used = new Set(machines.flatMap((machine) => machine.networks.map(({ network }) => network)));
  const networks = wanted.networks.filter(({ name }) => used.has(name));
  const changedNetworks = new Map<string, string>();
  for (const network of networks) {
    const before = observation.state?.networks[network.name];
    const cause = before === undefined ? undefined : whyNetworkChanged(before, network);
    if (cause !== undefined) changedNetworks.set(network.name, cause);
  }

  const reloadCause = ({ name }: Machine) => (options.reload && named.has(name) ? 'reload' : undefined);
  const restartCause = (machine: Machine): string | undefined => {
    const changed = machine.networks.find(({ network }) => changedNetworks.has(network));
    return changed === undefined ? reloadCause(machine) : `network ${changed.network} changed`;
  };
  const oneOffs = Object.values(records).filter(({ spec }) => spec.oneOff === true && !chosen.has(spec.name));
  const situation: Situation = {
    wanted,
    observation,
    records,
    machines,
    fates: new Map(
      machines.map((machine) => {
        const observed = observation.machines[machine.name] ?? { state: 'absent' };
        const fate = fateOf(machine, records[machine.name], observed, restartCause(machine), reloadCause(machine));
        return [machine.name, fate];
      }),
    ),
    orphans: all
      ? Object.values(records)
          .map(({ spec }) => spec)
          .filter(({ name, oneOff }) => oneOff !== true && !wanted.machines.some((machine) => machine.name === name))
      : [],
    networks,
    changedNetworks,
    orphanNetworks: all
      ? Object.keys(observation.state?.networks ?? {}).filter(
          (name) => !wanted.networks.some((n) => n.name === name) && !oneOffs.some(({ spec }) => isOn(spec, name)),
        )
      : [],
    options,
  };
  refuseChangeUnderOthers(situation);
  refuseSmallerDisks(machines, records);
  const anew = machines.filter(({ name }) => situation.fates.get(name)?.do === 'recreate');
  if (anew.length > 0)
    refuseLoss(
      anew.map(({ name }) => name),
      observation,
    );
  return situation;
}

/** A network cannot change under machines that were not chosen and run on it. */
function refuseChangeUnderOthers({ changedNetworks, records, machines, orphans, observation }: Situation): void {
  const included = new Set([...machines, ...orphans].map(({ name }) => name));
  for (const name of changedNetworks.keys()) {
    const others = Object.values(records).filter(
      ({ spec }) => !included.has(spec.name) && isOn(spec, name) && mayRun(observation.machines[spec.name]),
    );
    if (others.length === 0) continue;
    const oneOffs = others.flatMap(({ spec }) => (spec.oneOff === true ? [spec.name] : []));
    throw new TsvError('TSV_USAGE', `network ${name} changed, and other machines run on it`, {
      details: [`not named, but running on it: ${others.map(({ spec }) => spec.name).join(', ')}`],
      hint:
        oneOffs.length === 0
          ? 'tsv up   # without names: takes all of them along'
          : `wait until tsv run is done with ${oneOffs.join(', ')}, or end it: tsv halt ${oneOffs.join(' ')}`,
    });
  }
}

const isOn = (spec: Machine, network: string): boolean =>
  spec.networks.some((attachment) => attachment.network === network);

/** By machine: the node after which its processes, and with a destroy also its addresses, are free. */
type Gone = ReadonlyMap<string, number>;

function addRemovals(plan: PlanBuilder, situation: Situation): Gone {
  const { fates, orphans, machines, records, observation } = situation;
  const orphanNames = new Set(orphans.map(({ name }) => name));
  const orphanCause = 'no longer in the Tsfile';
  const specs = [...orphans, ...machines.flatMap(({ name }) => records[name]?.spec ?? [])];
  const stops = addStops(plan, specs, (name) => {
    if (!mayRun(observation.machines[name])) return undefined;
    if (orphanNames.has(name)) return orphanCause;
    const fate = fates.get(name);
    return fate?.do === 'restart' || fate?.do === 'recreate' ? fate.cause : undefined;
  });
  const gone = new Map(stops);
  for (const { name } of specs) {
    const fate = fates.get(name);
    const cause = orphanNames.has(name) ? orphanCause : fate?.do === 'recreate' ? fate.cause : undefined;
    if (cause === undefined) continue;
    gone.set(name, plan.add(destroyAction(name, situation), cause, [stops.get(name)]));
  }
  const removed = situation.orphanNetworks.map((network) => {
    const users = specs.filter((spec) => isOn(spec, network)).map(({ name }) => gone.get(name));
    return plan.add({ do: 'network.remove', network }, orphanCause, users);
  });
  const oneOffs = Object.values(records).some(({ spec }) => spec.oneOff === true && !gone.has(spec.name));
  if (machines.length === 0 && !oneOffs && observation.state?.sandbox !== undefined) {
    plan.add({ do: 'sandbox.remove' }, 'last machine', [...gone.values(), ...removed]);
  }
  return gone;
}

/** A container that makes way for another one leaves it its disks and, where both are of an image, its data. */
function destroyAction(name: string, { records, machines }: Situation): Action {
  const after = machines.find((machine) => machine.name === name);
  const before = records[name]?.spec;
  const volumes = before?.image !== undefined && after?.image !== undefined;
  const disks = before?.kind === 'container' && after?.kind === 'container' && before.disks.length > 0;
  const keep = disks ? (volumes ? 'volumes and disks' : 'disks') : volumes ? 'volumes' : undefined;
  return { do: 'machine.destroy', machine: name, ...(keep === undefined ? {} : { keep }) };
}

/** Returns the nodes that a machine's start must come after: the sandbox's under '', networks under their names. */
function addNetworks(plan: PlanBuilder, situation: Situation, gone: Gone): ReadonlyMap<string, number> {
  const { observation, fates, machines, records } = situation;
  const ids = new Map<string, number>();
  const starting = machines.filter(({ name }) => isStarted(fates.get(name)));
  const sandboxCause = whySandbox(observation);
  if (sandboxCause !== undefined && (observation.sandboxAlive || starting.length > 0)) {
    ids.set('', plan.add({ do: 'sandbox.ensure' }, sandboxCause));
  }

  const keepsRunning = Object.values(records)
    .map(({ spec }) => spec)
    .filter(({ name }) => observation.machines[name]?.state === 'running' && !gone.has(name));
  for (const network of situation.networks) {
    const { name } = network;
    const cause = whyEnsure(name, situation, {
      starting: starting.some((machine) => isOn(machine, name)),
      inUse: keepsRunning.some((spec) => isOn(spec, name)),
    });
    if (cause === undefined) continue;
    const users = Object.values(records).filter(({ spec }) => isOn(spec, name) && situation.changedNetworks.has(name));
    const after = [ids.get(''), ...users.map(({ spec }) => gone.get(spec.name))];
    ids.set(name, plan.add({ do: 'network.ensure', network: name }, cause, after));
  }
  return ids;
}

export function whySandbox({ state, sandboxAlive, servicesAlive }: Observation): string | undefined {
  if (state?.sandbox === undefined) return 'new';
  if (!sandboxAlive) return 'ended unexpectedly';
  if (state?.sandbox?.dnsmasq === undefined) return servicesAlive ? undefined : 'new';
  return servicesAlive ? undefined : 'DNS or uplink ended';
}

function whyEnsure(
  name: string,
  { observation, changedNetworks, options }: Situation,
  { starting, inUse }: { starting: boolean; inUse: boolean },
): string | undefined {
  if (observation.state?.networks[name] === undefined) return 'new';
  const changed = changedNetworks.get(name);
  if (changed !== undefined) return changed;
  if (!starting) return undefined;
  if (!observation.sandboxAlive) return 'new sandbox';
  if (options.reload) return 'reload';
  // The state remembers networks (for their subnets) beyond the sandbox that had them: a running machine is the
  // only proof that this sandbox has it, too.
  return inUse ? undefined : 'no machine runs on it';
}

function addMachines(
  plan: PlanBuilder,
  situation: Situation,
  gone: Gone,
  { networks, volumes }: Readonly<Record<'networks' | 'volumes', ReadonlyMap<string, number>>>,
): void {
  const { wanted, machines, fates, records } = situation;
  const boxes = addBoxes(plan, situation);
  const ready = new Map<string, Ready>();
  for (const machine of machines) {
    const { name } = machine;
    const record = records[name];
    const fate = fates.get(name);
    if (fate === undefined) continue;
    const anew = fate.do === 'create' || fate.do === 'recreate';
    const formerly = formerOwners(machine, situation, gone);
    const ground = [
      networks.get(''),
      ...machine.networks.map(({ network }) => networks.get(network)),
      ...(machine.volumes ?? []).map((use) => volumes.get(use.name)),
      gone.get(name),
      ...formerly,
    ];
    const cache = anew ? cacheOf(situation) : undefined;
    const from = cachedSteps(machine, wanted, cache);
    const created = anew
      ? plan.add({ do: 'machine.create', machine: name, ...(from === undefined ? {} : { from }) }, fate.cause, [
          boxes.get(boxKey(machine)),
          ...ground,
        ])
      : undefined;
    const adjust = fate.do === 'adjust' ? plan.add({ do: 'machine.adjust', machine: name }, fate.cause) : undefined;
    const start =
      fate.do === 'keep' || fate.do === 'adjust'
        ? undefined
        : plan.add({ do: fate.do === 'resume' ? 'machine.resume' : 'machine.start', machine: name }, fate.cause, [
            created,
            ...ground,
            ...gatesOf(machine, ready),
          ]);
    const next = followUp(machine, situation, { starts: start !== undefined, record: anew ? undefined : record });
    addReady(plan, ready, machine, {
      ...(start === undefined ? {} : { start }),
      ...(adjust === undefined ? {} : { adjust }),
      waitAfter: formerly,
      ...next,
      steps: withLayers(next.steps, from?.steps ?? [], machine, wanted, cache),
    });
  }
}

/** The cache as the mode of provisioning uses it: who wants no steps wants no layers, and who wants all wants none. */
function cacheOf({ options: { cache, provision } }: Situation): CacheView | undefined {
  if (cache === undefined || provision === false) return undefined;
  return provision === 'force' ? { ...cache, anew: true } : cache;
}

/** Removals of other machines that hold a port or an address which this machine is to have. */
function formerOwners(machine: Machine, { records }: Situation, gone: Gone): readonly number[] {
  const claims = claimsOf(machine);
  return [...gone].flatMap(([name, id]) => {
    const record = records[name];
    if (record === undefined || name === machine.name) return [];
    return [...claimsOf(record.spec, record)].some((claim) => claims.has(claim)) ? [id] : [];
  });
}

const boxKey = ({ box, kind }: Machine): string => `${kind} ${box}`;

function addBoxes(plan: PlanBuilder, { machines, fates }: Situation): ReadonlyMap<string, number> {
  const users = new Map<string, Machine[]>();
  for (const machine of machines) {
    const fate = fates.get(machine.name)?.do;
    if (fate !== 'create' && fate !== 'recreate') continue;
    users.set(boxKey(machine), [...(users.get(boxKey(machine)) ?? []), machine]);
  }
  const ids = new Map<string, number>();
  for (const [key, [first, ...others]] of users) {
    if (first === undefined) continue;
    const cause = `needed by ${first.name}${others.length === 0 ? '' : ` and ${others.length} more`}`;
    const action: Action =
      first.image === undefined
        ? { do: 'box.ensure', box: first.box, kind: first.kind }
        : { do: 'image.ensure', image: first.box };
    ids.set(key, plan.add(action, cause));
  }
  return ids;
}
