import {
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { TsvError } from '../model/errors.ts';
import type { LaunchRequest } from '../model/launch.ts';
import type { MachineAddress, NetworkState, ProcessRef } from '../model/state.ts';
import { launchProcess, signalProcess, waitExit } from '../sys/children.ts';
import { mustRun } from '../sys/command.ts';
import { pipe } from '../sys/fork.ts';
import { isAlive, processRef } from '../sys/process.ts';
import { enterPrefix, type UserMap } from '../sys/userns.ts';
import { parseRoutes, parseSubnet, type Subnet } from './addresses.ts';
import {
  containerAddressesScript,
  containerLinksScript,
  dhcpHostsFile,
  dnsmasqConfig,
  hostDevice,
  hostsFile,
  inNamespaceOf,
  type Named,
  networksScript,
  prefixOf,
  removeDevicesScript,
  removeNetworkScript,
  tapsScript,
  uplinkDevice,
} from './scripts.ts';
import {
  chooseSlirpSubnet,
  chooseUplinkPair,
  hostNameServers,
  hostUplinkScript,
  removeHostUplinkScript,
  sandboxUplinkScript,
} from './uplink.ts';

export interface SandboxOptions {
  readonly holder: ProcessRef;
  readonly map: UserMap;
  readonly projectId: string;
  readonly projectName: string;
  /** Folder of this project's sockets and helper files. */
  readonly runDir: string;
}

const rootedRunDir = '/run/tsv';

export type Networks = Readonly<Record<string, NetworkState>>;

/** The namespaces of one running project, seen from its agent. */
export class Sandbox {
  private readonly options: SandboxOptions;
  private readonly dnsDir: string;

  constructor(options: SandboxOptions) {
    this.options = options;
    // As root the name server runs as the sandbox's root, who may not enter root's own folders.
    this.dnsDir = options.map.rooted ? join(rootedRunDir, options.projectId) : join(options.runDir, 'dns');
  }

  get holder(): ProcessRef {
    return this.options.holder;
  }

  get netns(): string {
    return `/proc/${this.options.holder.pid}/ns/net`;
  }

  /** Subnets of the host's routes: an automatic subnet must not hide them. */
  static hostRoutes(): Subnet[] {
    return parseRoutes(readFileSync('/proc/net/route', 'utf8'));
  }

  async ensureNetworks(networks: Networks, options: { fresh: boolean }): Promise<void> {
    await this.inSandbox(networksScript(Object.values(networks), options), 'the networks could not be set up');
  }

  removeNetwork(network: NetworkState): Promise<void> {
    return this.inSandbox(removeNetworkScript(network.bridge), `network ${network.spec.name} could not be removed`);
  }

  /** Starts a name server for these networks, in place of the one that runs. */
  async ensureDns(
    networks: Networks,
    machines: readonly Named[],
    previous: ProcessRef | undefined,
  ): Promise<ProcessRef> {
    const { map, holder, projectName } = this.options;
    if (signalProcess(previous, 9) && previous !== undefined) await waitExit(previous.pid);
    mkdirSync(this.dnsDir, { recursive: true, mode: 0o755 });
    if (map.rooted) chownSync(this.dnsDir, map.uids[0]?.outside ?? 0, map.gids[0]?.outside ?? 0);
    const file = (name: string) => join(this.dnsDir, name);
    const servers = map.rooted ? hostNameServers() : [chooseSlirpSubnet(this.taken(networks)).nameServer];
    writeFileSync(file('resolv.conf'), servers.map((server) => `nameserver ${server}\n`).join(''));
    this.writeNames(machines);
    const config = dnsmasqConfig({
      networks: Object.values(networks),
      files: {
        hosts: file('hosts'),
        dhcpHosts: file('dhcp'),
        resolv: file('resolv.conf'),
        pid: file('pid'),
        log: file('log'),
      },
      domain: projectName,
    });
    writeFileSync(file('dnsmasq.conf'), config);
    await mustRun(
      [
        ...enterPrefix(holder.pid, map.rooted ? ['user', 'net'] : ['net']),
        'dnsmasq',
        `--conf-file=${file('dnsmasq.conf')}`,
      ],
      {
        code: 'TSV_NETWORK',
        message: 'the name server did not start',
      },
    );
    const ref = processRef(Number(readFileSync(file('pid'), 'utf8')));
    if (ref === undefined)
      throw new TsvError('TSV_NETWORK', 'the name server ended at once', { details: [`see ${file('log')}`] });
    return ref;
  }

  /** Tells the running name server which machines there are now. */
  updateNames(machines: readonly Named[], dnsmasq: ProcessRef | undefined): void {
    this.writeNames(machines);
    signalProcess(dnsmasq, 1);
  }

  private writeNames(machines: readonly Named[]): void {
    writeFileSync(join(this.dnsDir, 'hosts'), hostsFile(machines, this.options.projectName));
    writeFileSync(join(this.dnsDir, 'dhcp'), dhcpHostsFile(machines));
  }

  private taken(networks: Networks): Subnet[] {
    return [...Sandbox.hostRoutes(), ...Object.values(networks).map((network) => parseSubnet(network.subnet))];
  }

  /** The way out. As root it is no process but an interface and rules on the host: nothing to return. */
  async ensureUplink(networks: Networks, previous: ProcessRef | undefined): Promise<ProcessRef | undefined> {
    const { map, holder, projectId, runDir } = this.options;
    if (map.rooted) {
      const pair = chooseUplinkPair(projectId, this.taken(networks));
      await this.onHost(hostUplinkScript(projectId, pair, holder.pid), 'the way out could not be set up');
      await this.inSandbox(sandboxUplinkScript(pair), 'the way out could not be set up');
      return undefined;
    }
    if (isAlive(previous)) return previous;
    const { cidr } = chooseSlirpSubnet(this.taken(networks));
    const [ready, readyWrite] = pipe();
    try {
      const ref = await this.launch({
        argv: [
          'slirp4netns',
          '--configure',
          '--mtu=65520',
          '--disable-host-loopback',
          `--cidr=${cidr}`,
          '--ready-fd=3',
          String(holder.pid),
          uplinkDevice,
        ],
        net: 'host',
        logFile: join(runDir, 'uplink.log'),
        fds: [readyWrite],
      });
      closeSync(readyWrite);
      if (!(await readyByte(ready))) {
        throw new TsvError('TSV_NETWORK', 'the way out did not start', {
          details: [readFileSync(join(runDir, 'uplink.log'), 'utf8').trim().split('\n').at(-1) ?? ''],
        });
      }
      return ref;
    } catch (error) {
      throw error instanceof TsvError
        ? error
        : new TsvError('TSV_NETWORK', 'the way out did not start', { cause: error });
    }
  }

  /** Cables and addresses of a container whose network namespace is that of `pid`. */
  async connectContainer(
    machine: string,
    pid: number,
    addresses: readonly MachineAddress[],
    networks: Networks,
  ): Promise<void> {
    const bridges = Object.fromEntries(Object.values(networks).map((network) => [network.spec.name, network.bridge]));
    const links = addresses.length === 0 ? '' : containerLinksScript(machine, pid, addresses, bridges);
    const detailed = addresses.flatMap((address) => {
      const network = networks[address.network];
      return network === undefined
        ? []
        : [{ ...address, prefix: prefixOf(network), gateway: network.gateway, nat: network.spec.mode === 'nat' }];
    });
    // One script for both sides: the start waits for it.
    await this.inSandbox(
      links + inNamespaceOf(pid, containerAddressesScript(detailed)),
      `the network of ${machine} could not be set up`,
    );
  }

  async createTaps(machine: string, addresses: readonly MachineAddress[], networks: Networks): Promise<void> {
    const taps = addresses.map((address, index) => ({
      device: hostDevice('t', machine, index),
      bridge: networks[address.network]?.bridge ?? '',
    }));
    if (taps.length > 0) await this.inSandbox(tapsScript(taps), `the network of ${machine} could not be set up`);
  }

  /** A container's cables go with its namespace; a VM's taps are removed here. */
  async removeTaps(machine: string, addresses: readonly MachineAddress[]): Promise<void> {
    const devices = addresses.map((_, index) => hostDevice('t', machine, index));
    if (devices.length > 0)
      await this.inSandbox(removeDevicesScript(devices), `the network of ${machine} could not be removed`);
  }

  launch(request: LaunchRequest): Promise<ProcessRef> {
    return launchProcess(request, request.net === 'sandbox' ? { netns: this.netns } : {});
  }

  /** Ends everything that belongs to the sandbox itself. The machines are gone by then. */
  async remove(helpers: readonly (ProcessRef | undefined)[]): Promise<void> {
    const { map, projectId, holder } = this.options;
    for (const helper of [...helpers, holder]) signalProcess(helper, 9);
    if (map.rooted) await this.onHost(removeHostUplinkScript(projectId), 'the way out could not be removed');
    await Promise.all([...helpers, holder].map((helper) => (isAlive(helper) ? waitExit(helper.pid) : undefined)));
    rmSync(this.dnsDir, { recursive: true, force: true });
    if (map.rooted && existsSync(rootedRunDir) && readdirSync(rootedRunDir).length === 0) rmdirSync(rootedRunDir);
  }

  private async inSandbox(script: string, message: string): Promise<void> {
    const argv = ['nsenter', `--net=${this.netns}`, '--', 'sh', '-es'];
    await mustRun(argv, { code: 'TSV_NETWORK', message }, { input: script });
  }

  private async onHost(script: string, message: string): Promise<void> {
    await mustRun(['sh', '-es'], { code: 'TSV_NETWORK', message }, { input: script });
  }
}

/** true when a byte arrives, false when the other side closes without one. */
function readyByte(fd: number): Promise<boolean> {
  const stream = new Socket({ fd, readable: true, writable: false });
  return new Promise((resolve) => {
    stream.once('data', () => {
      resolve(true);
      stream.destroy();
    });
    stream.once('close', () => resolve(false));
  });
}
