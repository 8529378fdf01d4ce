import { chownSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { TsvError } from '../../src/model/errors.ts';
import type { MachineContext, Provider, Requirement, StartResult, Transport } from '../../src/model/provider.ts';
import type { Observed } from '../../src/model/state.ts';
import { ensureIdentity, loginKeyFile } from '../../src/ssh/identity.ts';
import { detectCgroups, findCgroups, removeCgroups } from '../../src/sys/cgroup.ts';
import { signalProcess, waitExit } from '../../src/sys/children.ts';
import { isAlive } from '../../src/sys/process.ts';
import type { UserMap } from '../../src/sys/userns.ts';
import { containerConfig, defaultCapabilities } from './config.ts';
import { endLeftovers } from './leftovers.ts';
import { startContainer } from './runtime.ts';
import { ContainerTransport } from './transport.ts';

export interface NamespaceProviderOptions {
  readonly map: UserMap;
  /** The sandbox's user namespace. */
  readonly userns: string;
  /** Lays the container's cables: see net/sandbox.ts. */
  connect(context: MachineContext, pid: number): Promise<void>;
  dial(netns: string, port: number): Promise<Duplex>;
}

const SIGTERM = 15;
const SIGKILL = 9;

/** Containers of Linux namespaces, run by this program itself. */
export function createNamespaceProvider(options: NamespaceProviderOptions): Provider {
  const { map } = options;
  const layout = detectCgroups();
  // A rooted agent sees host ids; a user's agent lives inside the sandbox's user namespace and sees the mapped ones.
  // In the same pieces as there: a range of ids must not span two of its parent's (user_namespaces(7)).
  const ids = map.rooted ? map.uids : map.uids.map(({ inside, count }) => ({ inside, outside: inside, count }));
  const idOutside = (id: number): number => {
    const range = ids.find(({ inside, count }) => id >= inside && id < inside + count);
    if (range === undefined) throw new TsvError('TSV_UNSUPPORTED', `id ${id} is outside the ids that a container has`);
    return range.outside + id - range.inside;
  };
  const cgroupPath = (context: MachineContext) => `tsv/${context.projectId}/${context.machine.name}`;

  const stop = async (context: MachineContext, force: boolean): Promise<void> => {
    const { process } = context;
    if (isAlive(process)) {
      const gone = waitExit(process.pid);
      if (!force && signalProcess(process, SIGTERM)) await within(gone, context.machine.stopTimeoutMs);
      signalProcess(process, SIGKILL);
      await gone;
    }
    removeCgroups(layout, cgroupPath(context));
  };

  return {
    kind: 'container',

    async probe(): Promise<readonly Requirement[]> {
      const missing = (['memory', 'cpu', 'pids'] as const).filter((controller) => layout[controller] === undefined);
      return [
        {
          id: 'cgroups',
          description: 'limits for memory, CPU and processes of containers',
          ok: missing.length === 0,
          required: false,
          detail: missing.length === 0 ? 'cgroups can be made' : `no cgroup of one's own for: ${missing.join(', ')}`,
          ...(missing.length === 0
            ? {}
            : { mend: 'systemd-run --user --scope -p Delegate=yes tsv up   # needs cgroup v2; or run as root' }),
        },
        {
          id: 'overlay',
          description: 'overlayfs, for root file systems without a copy',
          ok: readFileSync('/proc/filesystems', 'utf8').includes('\toverlay\n'),
          required: true,
          detail: 'in /proc/filesystems',
          mend: 'sudo modprobe overlay',
        },
      ];
    },

    validate: (machine) => (machine.disks.length > 0 ? ['disks are for virtual machines'] : []),

    async observe(context): Promise<Observed> {
      if (isAlive(context.process)) return { state: 'running', process: context.process };
      return existsSync(join(context.dir, 'upper'))
        ? { state: 'stopped', unexpectedly: context.process !== undefined }
        : { state: 'absent' };
    },

    async create(context) {
      for (const name of ['upper', 'work', 'rootfs']) {
        const folder = join(context.dir, name);
        mkdirSync(folder, { recursive: true, mode: 0o755 });
        chownSync(folder, idOutside(0), idOutside(0));
      }
      const identityDir = join(context.dir, 'identity');
      const identity = ensureIdentity(identityDir, `tsv ${context.projectName}/${context.machine.name}`);
      return { identityFile: loginKeyFile(identityDir), hostKey: identity.host.publicKey };
    },

    async start(context, signal, notice, record = async () => {}): Promise<StartResult> {
      if (isAlive(context.process)) return { process: context.process };
      signal.throwIfAborted();
      const { dir, machine, box } = context;
      if (box.rootfs === undefined)
        throw new TsvError('TSV_CONTAINER_START', `box ${box.name} has no root file system`);
      const config = containerConfig(context, ids);
      writeFileSync(join(dir, 'config.json'), `${JSON.stringify(config, null, 2)}\n`, { mode: 0o600 });
      const started = await startContainer({
        name: machine.name,
        config,
        layers: {
          lower: [box.rootfs],
          upper: join(dir, 'upper'),
          work: join(dir, 'work'),
          mountPoint: join(dir, 'rootfs'),
          userxattr: !map.rooted,
        },
        files: networkFiles(context),
        logFile: join(dir, 'console.log'),
        layout,
        ...(map.rooted ? { shareMap: options.userns } : {}),
        connect: (pid) => options.connect(context, pid),
        record,
      });
      if (started.cgroups.missing.length > 0)
        notice(`no limit on ${started.cgroups.missing.join(', ')}: no cgroup of one's own here (tsv doctor)`);
      return { process: started.process };
    },

    adopt: ({ process }) => {
      if (isAlive(process)) endLeftovers(process.pid);
    },

    stop: (context, { force }) => stop(context, force),

    async destroy(context) {
      await stop(context, true);
      for (const name of ['upper', 'work', 'rootfs', 'identity', 'config.json', 'console.log'])
        rmSync(join(context.dir, name), { recursive: true, force: true });
    },

    async connect(context): Promise<Transport> {
      const { process, machine } = context;
      if (!isAlive(process))
        throw new TsvError('TSV_NOT_RUNNING', `${machine.name} is not running`, { hint: `tsv up ${machine.name}` });
      const config = containerConfig(context, ids);
      return new ContainerTransport({
        name: machine.name,
        process,
        environment: Object.fromEntries(
          config.process.env.map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]),
        ),
        capabilities: defaultCapabilities,
        cgroupFolders: () => findCgroups(layout, cgroupPath(context)),
        dial: options.dial,
      });
    },
  };
}

/** Resolves when the promise does, or when the time is up. */
async function within(promise: Promise<unknown>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  await Promise.race([
    promise,
    new Promise<void>((resolve) => {
      timer = setTimeout(resolve, ms);
    }),
  ]);
  clearTimeout(timer);
}

/** hostname(5), hosts(5) and resolv.conf(5) of a container. */
function networkFiles(context: MachineContext): Record<string, string> {
  const { machine, addresses, networks, projectName } = context;
  const first = addresses[0];
  const dns = addresses.map((address) => networks[address.network]?.gateway).filter((gateway) => gateway !== undefined);
  return {
    '/etc/hostname': `${machine.hostname}\n`,
    '/etc/hosts': [
      '127.0.0.1 localhost',
      '::1 localhost ip6-localhost ip6-loopback',
      ...(first === undefined ? [] : [`${first.address} ${machine.hostname}.${projectName} ${machine.hostname}`]),
      '',
    ].join('\n'),
    '/etc/resolv.conf':
      dns.length === 0 ? '' : `search ${projectName}\n${dns.map((address) => `nameserver ${address}\n`).join('')}`,
  };
}
