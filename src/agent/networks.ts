import { TsvError } from '../model/errors.ts';
import type { Project } from '../model/project.ts';
import type { NetworkState, State } from '../model/state.ts';
import { chooseSubnet, formatSubnet, gatewayOf, parseSubnet } from '../net/addresses.ts';
import { Sandbox } from '../net/sandbox.ts';
import type { StateStore } from '../state/store.ts';
import { Mutex } from '../sys/mutex.ts';
import { isAlive } from '../sys/process.ts';
import { namedMachines, without } from './machines.ts';

/** The networks of a project, with their name server and way out. They are changed by one at a time. */
export class ProjectNetworks {
  private readonly store: StateStore;
  private readonly sandbox: Sandbox;
  private readonly turn = new Mutex();
  private uplinkReady = false;

  constructor(store: StateStore, sandbox: Sandbox) {
    this.store = store;
    this.sandbox = sandbox;
  }

  private get state(): State {
    return this.store.current;
  }

  /** For what else changes the sandbox's interfaces. */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    return this.turn.run(work);
  }

  /** What an earlier agent has set up is there. */
  adopt(): void {
    this.uplinkReady = Object.values(this.state.networks).some((network) => network.spec.mode === 'nat');
  }

  /** Name server and way out, after one of them or the sandbox has ended. */
  ensureServices(): Promise<void> {
    this.uplinkReady = false;
    return this.inTurn(() => this.startServices());
  }

  private async startServices(): Promise<void> {
    const { sandbox } = this;
    const networks = this.state.networks;
    const nat = Object.values(networks).some((network) => network.spec.mode === 'nat');
    if (Object.keys(networks).length > 0) {
      const known = this.state.sandbox;
      await sandbox.ensureNetworks(networks, { fresh: true });
      const dnsmasq = await sandbox.ensureDns(networks, namedMachines(this.state), known?.dnsmasq);
      await this.updateSandbox({ dnsmasq });
    }
    if (nat) await this.ensureUplink();
  }

  private async updateSandbox(change: Partial<NonNullable<State['sandbox']>>): Promise<void> {
    await this.store.update((state) =>
      state.sandbox === undefined ? state : { ...state, sandbox: { ...state.sandbox, ...change } },
    );
  }

  private async ensureUplink(): Promise<void> {
    const { sandbox } = this;
    const known = this.state.sandbox?.uplink;
    if (this.uplinkReady && (known === undefined || isAlive(known))) return;
    const uplink = await sandbox.ensureUplink(this.state.networks, known);
    this.uplinkReady = true;
    if (uplink !== undefined) await this.updateSandbox({ uplink });
  }

  /** Makes a network as the Tsfile has it, else as it was. */
  ensure(name: string, project: Project | undefined): Promise<void> {
    return this.inTurn(() => this.makeNetwork(name, project));
  }

  private async makeNetwork(name: string, project: Project | undefined): Promise<void> {
    const { sandbox, store } = this;
    const spec = project?.networks.find((network) => network.name === name) ?? this.state.networks[name]?.spec;
    if (spec === undefined)
      throw new TsvError('TSV_INTERNAL', `network ${name} is neither in the Tsfile nor in the state`);
    const before = this.state.networks[name];
    const others = Object.values(this.state.networks).filter((network) => network.spec.name !== name);
    const taken = [
      ...others.map((network) => parseSubnet(network.subnet)),
      ...wantedSubnets(project, name),
      ...Sandbox.hostRoutes(),
    ];
    const subnet =
      spec.subnet ?? before?.subnet ?? formatSubnet(chooseSubnet(`${this.state.projectId}/${name}`, taken));
    const network: NetworkState = { spec, subnet, gateway: gatewayOf(parseSubnet(subnet)), bridge: `br-${name}` };
    if (before !== undefined && before.subnet !== subnet) await sandbox.removeNetwork(before);
    await store.update((state) => ({ ...state, networks: { ...state.networks, [name]: network } }));
    await sandbox.ensureNetworks(this.state.networks, { fresh: true });
    if (spec.mode === 'nat') await this.ensureUplink();
    const dnsmasq = await sandbox.ensureDns(
      this.state.networks,
      namedMachines(this.state),
      this.state.sandbox?.dnsmasq,
    );
    await this.updateSandbox({ dnsmasq });
  }

  remove(name: string): Promise<void> {
    return this.inTurn(() => this.removeNetwork(name));
  }

  private async removeNetwork(name: string): Promise<void> {
    const { sandbox, store } = this;
    const network = this.state.networks[name];
    if (network === undefined) return;
    await store.update((state) => ({ ...state, networks: without(state.networks, name) }));
    // With the last network the whole sandbox goes, and takes the bridge along.
    const left = this.state.networks;
    if (Object.keys(left).length === 0) return;
    await sandbox.removeNetwork(network);
    const known = this.state.sandbox?.dnsmasq;
    // One that has ended is not started for this: after a crash the other networks are not there either.
    if (isAlive(known))
      await this.updateSandbox({ dnsmasq: await sandbox.ensureDns(left, namedMachines(this.state), known) });
  }

  /** Ends the sandbox, and all that is in it with it. Nobody uses it any more. */
  removeSandbox(): Promise<void> {
    return this.inTurn(async () => {
      const known = this.state.sandbox;
      await this.sandbox.remove([known?.dnsmasq, known?.uplink]);
      await this.store.update(({ sandbox: _, ...state }) => state);
    });
  }
}

/** Subnets that the Tsfile fixes for other networks: an automatic one must keep clear of them, made yet or not. */
const wantedSubnets = (project: Project | undefined, except: string) =>
  (project?.networks ?? []).flatMap((network) =>
    network.name === except || network.subnet === undefined ? [] : [parseSubnet(network.subnet)],
  );
