import {
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import {
  type Cgroup,
  type CgroupLayout,
  createCgroup,
  detectCgroups,
  placeBelowBase,
  removeCgroup,
} from '../../src/cgroup/index.ts';
import { TsvError } from '../../src/model/errors.ts';
import { isolationOf } from '../../src/model/project.ts';
import type { MachineContext, Provider, Requirement, StartResult, Transport } from '../../src/model/provider.ts';
import type { Observed } from '../../src/model/state.ts';
import { createContainer, lastCapability } from '../../src/oci/create.ts';
import { readBelow } from '../../src/oci/open.ts';
import type { OciConfig, OciDeviceRule } from '../../src/oci/spec.ts';
import { ensureIdentity, loginKeyFile } from '../../src/ssh/identity.ts';
import { signalProcess, waitExit } from '../../src/sys/children.ts';
import { O } from '../../src/sys/flags.ts';
import { isAlive } from '../../src/sys/process.ts';
import type { UserMap } from '../../src/sys/userns.ts';
import { capabilitiesOf, containerConfig } from './config.ts';
import { lookUpUser } from './inside.ts';
import { endLeftovers } from './leftovers.ts';
import { readSeccompProfile } from './profile.ts';
import { ContainerTransport } from './transport.ts';

export interface NamespaceProviderOptions {
  readonly map: UserMap;
  /** The sandbox's user namespace. */
  readonly userns: string;
  /** Lays the container's cables: see net/sandbox.ts. */
  connect(context: MachineContext, pid: number): Promise<void>;
  dial(netns: string, port: number): Promise<Duplex>;
}

const SIGKILL = 9;
const O_APPEND = 0o2000;

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
  const cgroupOf = (context: MachineContext): Cgroup => placeMachine(layout, context);

  /** What the image and the host say about a machine, for its configuration. */
  const configOf = (context: MachineContext): OciConfig => {
    const { machine, dir, box } = context;
    const isolation = isolationOf(machine);
    const layers = [join(dir, 'upper'), ...(box.rootfs === undefined ? [] : [box.rootfs])];
    const file = (path: string) => {
      for (const layer of layers) {
        const text = readBelow(layer, path);
        if (text !== undefined) return text;
      }
      return '';
    };
    const { user, group } = isolation.user;
    const spec = group === undefined ? `${user}` : `${user}:${group}`;
    return containerConfig(context, {
      ids,
      lastCapability: lastCapability(),
      user: lookUpUser(file('/etc/passwd'), file('/etc/group'), spec),
      seccomp:
        typeof isolation.seccomp === 'string'
          ? undefined
          : readSeccompProfile(isolation.seccomp.path, capabilitiesOf(isolation, lastCapability()), release()),
      devices: isolation.devices.map(({ host, access }) => deviceRule(host, access)),
    });
  };

  const stop = async (context: MachineContext, force: boolean): Promise<void> => {
    const { process } = context;
    if (isAlive(process)) {
      const gone = waitExit(process.pid);
      if (!force && signalProcess(process, isolationOf(context.machine).stopSignal))
        await within(gone, context.machine.stopTimeoutMs);
      signalProcess(process, SIGKILL);
      await gone;
    }
    await removeCgroup(cgroupOf(context), { parents: true });
  };

  return {
    kind: 'container',

    async probe(): Promise<readonly Requirement[]> {
      const usable = placeBelowBase(layout, 'tsv', limited).members.flatMap(({ controllers }) => controllers);
      const missing = limited.filter((controller) => !usable.includes(controller));
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
      const config = configOf(context);
      writeFileSync(join(dir, 'config.json'), `${JSON.stringify(config, null, 2)}\n`, { mode: 0o600 });
      const cgroup = createCgroup(cgroupOf(context), config.linux?.resources ?? {}, { strict: false });
      const missing = cgroup.missing.map(({ controller }) => controller).filter((name) => limited.includes(name));
      if (missing.length > 0)
        notice(`no limit on ${[...new Set(missing)].join(', ')}: no cgroup of one's own here (tsv doctor)`);
      const log = openSync(join(dir, 'console.log'), O.WRONLY | O.CREAT | O_APPEND | O.NOFOLLOW, 0o600);
      const stdin = openSync('/dev/null', O.RDONLY);
      try {
        const container = await createContainer({
          name: machine.name,
          config,
          bundle: dir,
          layers: {
            lower: [box.rootfs],
            upper: join(dir, 'upper'),
            work: join(dir, 'work'),
            mountPoint: join(dir, 'rootfs'),
            userxattr: !map.rooted,
          },
          cgroup,
          files: networkFiles(context),
          stdio: { stdin, stdout: log, stderr: log },
          init: isolationOf(machine).init,
          ...(map.rooted ? { bindMap: options.userns } : {}),
          connect: (pid) => options.connect(context, pid),
        });
        try {
          // It waits: were this agent killed now, it would end.
          await record(container.process);
          await container.start();
        } catch (error) {
          await container.abandon();
          throw error;
        }
        return { process: container.process };
      } catch (error) {
        await removeCgroup(cgroup.cgroup, { parents: true });
        throw error;
      } finally {
        closeSync(log);
        closeSync(stdin);
      }
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
      return new ContainerTransport({
        name: machine.name,
        process,
        config: configOf(context),
        cgroupFolders: () => cgroupOf(context).members.flatMap(({ folder }) => (existsSync(folder) ? [folder] : [])),
        dial: options.dial,
      });
    },
  };
}

/** Limits that a machine has, and so the controllers whose absence is worth a word. */
const limited: readonly string[] = ['memory', 'cpu', 'pids'];

/**
 * The machine's cgroups. Beside v1 the unified hierarchy adds nothing but the time that moving a process there takes.
 */
function placeMachine(layout: CgroupLayout, context: MachineContext): Cgroup {
  const path = `tsv/${context.projectId}/${context.machine.name}`;
  const cgroup = placeBelowBase(layout, path, [...limited, 'devices', 'freezer']);
  const v1 = cgroup.members.filter(({ version }) => version === 1);
  return v1.length === 0 ? cgroup : { ...cgroup, members: v1 };
}

/** The device behind a node of the host, by its numbers. */
function deviceRule(path: string, access: string): OciDeviceRule {
  const stat = statSync(path);
  const [major, minor] = deviceNumbers(stat.rdev);
  return { allow: true, type: stat.isBlockDevice() ? 'b' : 'c', major, minor, access };
}

/** gnu_dev_major(3), gnu_dev_minor(3) of a number that fits 32 bits. */
const deviceNumbers = (rdev: number): [major: number, minor: number] => [
  (rdev >>> 8) & 0xfff,
  (rdev & 0xff) | ((rdev >>> 12) & 0xfff00),
];

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
