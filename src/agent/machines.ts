import { mkdirSync } from 'node:fs';
import { TsvError } from '../model/errors.ts';
import type { Machine, MachineKind } from '../model/project.ts';
import type { BoxRef, MachineContext, Provider, Transport } from '../model/provider.ts';
import type { MachineAddress, MachineState, NetworkState, State } from '../model/state.ts';
import { chooseAddress, chooseMac, parseSubnet } from '../net/addresses.ts';
import { type Named, prefixOf } from '../net/scripts.ts';
import { isAlive } from '../sys/process.ts';

export type Providers = Readonly<Record<MachineKind, Provider>>;

export interface MachinePlaces {
  machineDir(name: string): string;
  runDir(name: string): string;
  volumeDir(name: string): string;
  /**
   * The box or image in the store that a machine was made from, with its layers of the provision cache upon it. Never builds or
   * pulls. @throws TSV_UNKNOWN_BOX, TSV_IMAGE_UNKNOWN, TSV_CACHE
   */
  box(machine: Pick<Machine, 'box' | 'kind' | 'image'>, digest: string, layers: readonly string[]): BoxRef;
}

/** What a provider needs to know of a machine, from the state alone. */
export function machineContext(state: State, name: string, places: MachinePlaces): MachineContext {
  const record = recordOf(state, name);
  const dir = places.machineDir(name);
  const runDir = places.runDir(name);
  for (const folder of [dir, runDir]) mkdirSync(folder, { recursive: true, mode: 0o700 });
  const networks = Object.fromEntries(
    Object.entries(state.networks).map(([key, network]) => [
      key,
      { bridge: network.bridge, gateway: network.gateway, prefix: prefixOf(network), mode: network.spec.mode },
    ]),
  );
  return {
    machine: record.spec,
    projectId: state.projectId,
    projectName: state.projectName,
    dir,
    runDir,
    volumeDir: places.volumeDir,
    // Looked up when it is used: a machine can be stopped and destroyed without its box.
    get box() {
      return places.box(record.spec, record.boxDigest, record.layers ?? []);
    },
    addresses: record.addresses,
    networks,
    memory: record.provider,
    process: record.process,
  };
}

export function recordOf(state: State, name: string): MachineState {
  const record = state.machines[name];
  if (record === undefined)
    throw new TsvError('TSV_NOT_RUNNING', `${name} does not exist yet`, { hint: `tsv up ${name}` });
  return record;
}

/** What providers keep the memory of a suspended machine under. */
export const suspendTag = 'tsv-suspend';

/** @throws TSV_NOT_RUNNING */
export function requireRunning({ spec: { name }, process, suspended }: MachineState): void {
  if (!isAlive(process) && suspended?.memory === true)
    throw new TsvError('TSV_NOT_RUNNING', `${name} is suspended`, { hint: `tsv resume ${name}` });
  if (!isAlive(process)) throw new TsvError('TSV_NOT_RUNNING', `${name} is not running`, { hint: `tsv up ${name}` });
}

/** It runs, and would answer: whoever waits for a paused one waits for ever. @throws TSV_NOT_RUNNING */
export function requireUsable(record: MachineState): void {
  requireRunning(record);
  const { name } = record.spec;
  if (record.paused === true)
    throw new TsvError('TSV_NOT_RUNNING', `${name} is paused`, { hint: `tsv unpause ${name}` });
}

/** A new machine's record: its addresses chosen among those that no other machine has. */
export function newRecord(state: State, machine: Machine, boxDigest: string): MachineState {
  return {
    spec: machine,
    boxDigest,
    addresses: chooseAddresses(state, machine),
    createdAt: new Date().toISOString(),
    ready: false,
    steps: {},
    provider: {},
  };
}

/** Fixed addresses as given; others keep what the machine had, else get the lowest free one. MACs stay. */
export function chooseAddresses(state: State, machine: Machine): readonly MachineAddress[] {
  const before = state.machines[machine.name]?.addresses ?? [];
  return machine.networks.map((attachment, index) => {
    const network = networkOf(state, attachment.network);
    const device = `eth${index}`;
    const others = Object.entries(state.machines).filter(([name]) => name !== machine.name);
    const taken = new Set(
      others.flatMap(([, other]) =>
        other.addresses.filter((a) => a.network === attachment.network).map((a) => a.address),
      ),
    );
    const kept = before.find((a) => a.network === attachment.network)?.address;
    const subnet = parseSubnet(network.subnet);
    const address =
      attachment.address ??
      (kept !== undefined && !taken.has(kept) && isIn(kept, network) ? kept : chooseAddress(subnet, taken));
    return {
      network: attachment.network,
      address,
      mac:
        before.find((a) => a.device === device)?.mac ??
        freeMac(`${state.projectId}/${machine.name}/${index}`, new Set(others.flatMap(macsOf))),
      device,
    };
  });
}

const macsOf = ([, { addresses }]: readonly [string, MachineState]) => addresses.map(({ mac }) => mac);

/** By the name, unless a machine that had this name before has it. */
function freeMac(key: string, taken: ReadonlySet<string>): string {
  for (let n = 0; ; n++) {
    const mac = chooseMac(n === 0 ? key : `${key}+${n}`);
    if (!taken.has(mac)) return mac;
  }
}

const isIn = (address: string, network: NetworkState): boolean => {
  const subnet = parseSubnet(network.subnet);
  const inside = parseSubnet(`${address}/${subnet.prefix}`);
  return inside.base === subnet.base;
};

export function networkOf(state: State, name: string): NetworkState {
  const network = state.networks[name];
  if (network === undefined) throw new TsvError('TSV_INTERNAL', `network ${name} is not in the state`);
  return network;
}

export const namedMachines = (state: State): Named[] =>
  Object.values(state.machines).map(({ spec, addresses }) => ({
    name: spec.name,
    group: spec.group,
    hostname: spec.hostname,
    addresses,
  }));

/** Open ways into running machines; each is opened once and shared. */
export class Transports {
  private readonly open = new Map<string, Promise<Transport>>();

  get(name: string, connect: () => Promise<Transport>): Promise<Transport> {
    const existing = this.open.get(name);
    if (existing !== undefined) return existing;
    const opening = connect();
    this.open.set(name, opening);
    const forget = () => {
      if (this.open.get(name) === opening) this.open.delete(name);
    };
    opening.then((transport) => transport.closed.then(forget, forget), forget);
    return opening;
  }

  async drop(name: string): Promise<void> {
    (await this.#take(name))?.close();
  }

  /** Of a machine that goes on, and is to have nothing of it. */
  async leave(name: string): Promise<void> {
    const transport = await this.#take(name);
    await (transport?.leave?.() ?? transport?.close());
  }

  async dropAll(): Promise<void> {
    await Promise.all([...this.open.keys()].map((name) => this.drop(name)));
  }

  /** The one that is open, or opens, for who closes it. */
  #take(name: string): Promise<Transport | undefined> {
    const opening = this.open.get(name);
    this.open.delete(name);
    return opening?.catch(() => undefined) ?? Promise.resolve(undefined);
  }
}

/** Key of a box, or of an image by its reference, in {@link ProjectCommand}'s `boxes`. */
export const boxKey = (box: string, kind: MachineKind): string => `${box}/${kind}`;

/** The table without one of its entries. */
export function without<T>(table: Readonly<Record<string, T>>, key: string): Readonly<Record<string, T>> {
  const { [key]: _, ...rest } = table;
  return rest;
}
