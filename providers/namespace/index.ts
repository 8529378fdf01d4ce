import {
  chownSync,
  closeSync,
  existsSync,
  fchmodSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import {
  type Cgroup,
  type CgroupLayout,
  canFreeze,
  createCgroup,
  detectCgroups,
  freeze,
  isFrozen,
  oomKills,
  placeBelowBase,
  removeCgroup,
  thaw,
} from '../../src/cgroup/index.ts';
import { containerProcess } from '../../src/model/container-process.ts';
import { refuseDisks } from '../../src/model/disks.ts';
import { TsvError } from '../../src/model/errors.ts';
import { isolationOf } from '../../src/model/project.ts';
import type { MachineContext, Provider, Requirement, StartResult, Transport } from '../../src/model/provider.ts';
import type { Ending, Observed } from '../../src/model/state.ts';
import { createContainer, lastCapability } from '../../src/oci/create.ts';
import { readLayers } from '../../src/oci/layers.ts';
import type { OciConfig, OciDeviceRule } from '../../src/oci/spec.ts';
import { ensureIdentity, loginKeyFile } from '../../src/ssh/identity.ts';
import { stateFiles } from '../../src/state/paths.ts';
import { signalProcess, waitExit } from '../../src/sys/children.ts';
import { O } from '../../src/sys/flags.ts';
import { pipe } from '../../src/sys/fork.ts';
import { idOutside } from '../../src/sys/id-range.ts';
import type { Keeper } from '../../src/sys/keeper.ts';
import { keeperOf } from '../../src/sys/keeper-of.ts';
import { keptFiles, lostEnding, readEnding } from '../../src/sys/kept-files.ts';
import { lastLines } from '../../src/sys/last-lines.ts';
import { Mutex } from '../../src/sys/mutex.ts';
import { isAlive } from '../../src/sys/process.ts';
import { signalName } from '../../src/sys/signals.ts';
import type { UserMap } from '../../src/sys/userns.ts';
import { configFiles, readConfig, writeConfig } from './bundle.ts';
import { cloneContainer } from './clone.ts';
import { capabilitiesOf, containerConfig } from './config.ts';
import { unfinished } from './disk-image.ts';
import { deviceNumber, disksOf } from './disk-numbers.ts';
import { diskPlaces, mountDisks } from './disks.ts';
import { lookUpUser, openInside } from './inside.ts';
import { endLeftovers } from './leftovers.ts';
import { adjustLimits, limited, limitedDisks, limitsOf, noDisk, noLimit, restoreLimits } from './limits.ts';
import { lowerLayers } from './lower.ts';
import { stopSignalOf, volumePaths } from './process.ts';
import { readSeccompProfile } from './profile.ts';
import { saveUpper } from './save-layer.ts';
import { foreignShare, placeShares } from './shares.ts';
import { snapshots, snapshotsFolder, swapFolders } from './snapshot.ts';
import { ContainerTransport } from './transport.ts';
import { ensureVolumes, imageVolume, projectVolume, type Volume, type VolumeSource } from './volumes.ts';

export interface NamespaceProviderOptions {
  readonly map: UserMap;
  /** Lays the container's cables: see net/sandbox.ts. */
  connect(context: MachineContext, pid: number): Promise<void>;
  dial(netns: string, port: number): Promise<Duplex>;
  /** Built: `dist/parts/copy.js`. */
  readonly copyProgram: string;
}

const SIGTERM = 15;
const SIGKILL = 9;
const O_APPEND = 0o2000;
const O_TRUNC = 0o1000;

/** Containers of Linux namespaces, run by this program itself. */
export function createNamespaceProvider(options: NamespaceProviderOptions): Provider {
  const { map } = options;
  const layout = detectCgroups();
  // A rooted agent sees host ids; a user's agent lives inside the sandbox's user namespace and sees the mapped ones.
  // In the same pieces as there: a range of ids must not span two of its parent's (user_namespaces(7)).
  const ids = map.rooted ? map.uids : map.uids.map(({ inside, count }) => ({ inside, outside: inside, count }));
  const ownerOf = (id: number): number => {
    const outside = idOutside(ids, id);
    if (outside === undefined)
      throw new TsvError('TSV_UNSUPPORTED', `id ${id} is outside the ids that a container has`);
    return outside;
  };
  /** By a machine's folder: the end of its keeper. */
  const keepers = new Map<string, Promise<unknown>>();
  const remember = (dir: string, gone: Promise<unknown>): void => {
    const done = gone.then(() => {
      if (keepers.get(dir) === done) keepers.delete(dir);
    });
    keepers.set(dir, done);
  };
  const cgroupOf = (context: MachineContext): Cgroup => placeMachine(layout, context);
  /** What of the machine's cgroup is there. */
  const existingCgroup = (context: MachineContext): Cgroup => {
    const cgroup = cgroupOf(context);
    return { ...cgroup, members: cgroup.members.filter(({ folder }) => existsSync(folder)) };
  };

  const projectVolumes = ({ machine, volumeDir }: MachineContext): Volume[] =>
    (machine.volumes ?? []).map((use) => projectVolume(use, volumeDir));
  const volumesOf = (context: MachineContext): Volume[] => [
    ...volumePaths(context.machine, context.box.defaults).map((path) => imageVolume(context.dir, path)),
    ...projectVolumes(context),
  ];
  const volumeTurn = new Mutex();

  /** The box or image in its layers. @throws TSV_CONTAINER_START */
  const layersOf = ({ dir, box }: MachineContext) => {
    if (box.layers === undefined) throw new TsvError('TSV_CONTAINER_START', `box ${box.name} has no root file system`);
    const { lower, folder } = lowerLayers(dir, box.layers);
    return {
      lower,
      ...(folder === undefined ? {} : { folder }),
      mountPoint: join(dir, 'rootfs'),
      userxattr: !map.rooted || box.defaults !== undefined, // an image's layers have their attributes as user.overlay.*
    };
  };
  /** @param upper above the layers: an overlay without a place to write to needs two */
  const volumeSource = (layers: ReturnType<typeof layersOf>, upper: string): VolumeSource => ({
    layers: { ...layers, lower: [upper, ...layers.lower] },
    owner: ownerOf(0),
    turn: volumeTurn,
  });

  /** A folder of the machine that belongs to the container's root. */
  const makeOwn = ({ dir }: MachineContext, name: string): void => {
    const folder = join(dir, name);
    mkdirSync(folder, { recursive: true, mode: 0o755 });
    chownSync(folder, ownerOf(0), ownerOf(0));
  };

  /** What the image and the host say about a machine, for its configuration. */
  const configOf = (context: MachineContext, notice: (text: string) => void = () => {}): OciConfig => {
    const { machine, dir, box } = context;
    const isolation = isolationOf(machine);
    const layers = [join(dir, 'upper'), ...(box.layers ?? [])];
    const file = (path: string) => readLayers(layers, path) ?? '';
    const lookUp = (user: string) => lookUpUser(file('/etc/passwd'), file('/etc/group'), user);
    const user = lookUp(containerProcess(machine, box.defaults).user);
    return containerConfig(context, {
      ids,
      lastCapability: lastCapability(),
      user,
      ...(box.defaults === undefined ? {} : { image: box.defaults }),
      volumes: volumesOf(context),
      disks: diskPlaces(context),
      shares: placeShares(machine.shares, {
        block: map.rooted ? map.uids[0] : undefined,
        user: (uid) => (uid === undefined ? user : lookUp(String(uid))),
        notice,
      }),
      seccomp:
        typeof isolation.seccomp === 'string'
          ? undefined
          : readSeccompProfile(isolation.seccomp.path, capabilitiesOf(isolation, lastCapability()), release()),
      devices: isolation.devices.map(({ host, access }) => deviceRule(host, access)),
      limitedDisks: machine.io === undefined ? [] : disksOf([dir, ...(box.layers ?? [])]),
    });
  };

  /**
   * What a container's output goes to: a pipe, so that its processes can open /dev/stdout again, whoever they have become,
   * and none can cut off what is in the log. A container that runs nothing but the init prints nothing.
   */
  const openOutput = ({ dir, projectName }: MachineContext, args: readonly string[]): Output => {
    const opened: number[] = [];
    const open = (path: string, flags: number): number => {
      const fd = openSync(path, flags | O.CLOEXEC, 0o600);
      opened.push(fd);
      return fd;
    };
    try {
      const append = O.WRONLY | O.CREAT | O_APPEND | O.NOFOLLOW;
      const kept = {
        log: open(join(dir, keptFiles.log), append),
        times: open(join(dir, keptFiles.times), append),
        exit: open(join(dir, keptFiles.exit), O.WRONLY | O.CREAT | O_TRUNC | O.NOFOLLOW),
        folder: open(dir, O.RDONLY | O.DIRECTORY),
        label: `tsv:${projectName}`,
      };
      if (args.length === 0) return { fd: kept.log, opened, keeper: { ...kept, input: open('/dev/null', O.RDONLY) } };
      const [reading, writing] = pipe();
      opened.push(reading, writing);
      fchmodSync(writing, 0o622);
      return { fd: writing, opened, keeper: { ...kept, input: reading } };
    } catch (error) {
      for (const fd of opened) closeSync(fd);
      throw error;
    }
  };

  /** With what it printed last, where it has ended by itself. */
  const notRunning = async ({ machine: { name }, process, dir }: MachineContext): Promise<TsvError> => {
    if (process === undefined)
      return new TsvError('TSV_NOT_RUNNING', `${name} is not running`, { hint: `tsv up ${name}` });
    await keepers.get(dir);
    return new TsvError('TSV_NOT_RUNNING', `${name} has ended`, {
      details: lastWords(dir),
      hint: `tsv logs ${name}`,
    });
  };

  const stop = async (
    context: MachineContext,
    { force, timeoutMs = context.machine.stopTimeoutMs, forced }: Parameters<Provider['stop']>[1],
  ): Promise<void> => {
    const { process } = context;
    if (isAlive(process)) {
      const gone = waitExit(process.pid);
      const cgroup = existingCgroup(context);
      const letGo = (): void => {
        if (isFrozen(cgroup)) thaw(cgroup);
      };
      // A frozen process takes no signal; of v1, not even the last.
      if (!force) letGo();
      // As it was when the machine was made: it can be stopped without its image.
      const remembered = imageMemory(context)?.stopSignal;
      const signal = isolationOf(context.machine).stopSignal ?? remembered ?? SIGTERM;
      if (!force && signalProcess(process, signal) && !(await within(gone, timeoutMs)))
        forced?.(`it had not ended ${timeoutMs / 1000} s after SIG${signalName(signal)}, and was killed`);
      signalProcess(process, SIGKILL);
      letGo();
      await gone;
    }
    await keepers.get(context.dir);
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
          ...(missing.length === 0 ? {} : { mend: cgroupMend }),
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

    validate: (machine) => [
      ...refuseDisks(machine, map.rooted),
      ...(map.rooted ? [] : machine.shares.flatMap(foreignShare)),
    ],

    async observe(context): Promise<Observed> {
      if (isAlive(context.process)) return { state: 'running', process: context.process };
      return existsSync(join(context.dir, 'upper'))
        ? { state: 'stopped', unexpectedly: context.process !== undefined }
        : { state: 'absent' };
    },

    async create(context) {
      const isNew = !existsSync(join(context.dir, 'upper'));
      for (const name of ['work', 'rootfs']) makeOwn(context, name);
      const volumes = isNew ? projectVolumes(context) : [];
      if (volumes.length > 0)
        await ensureVolumes(volumes, volumeSource(layersOf(context), join(context.dir, 'work')), { empty: true });
      // Last: what has it is not new any more.
      makeOwn(context, 'upper');
      const identityDir = join(context.dir, 'identity');
      const identity = ensureIdentity(identityDir, `tsv ${context.projectName}/${context.machine.name}`);
      const { defaults } = context.box;
      return {
        identityFile: loginKeyFile(identityDir),
        hostKey: identity.host.publicKey,
        ...(defaults === undefined
          ? {}
          : {
              image: {
                stopSignal: stopSignalOf(context.machine, defaults),
                exposedPorts: defaults.exposedPorts,
                labels: defaults.labels,
              } satisfies ImageMemory,
            }),
      };
    },

    async start(context, signal, notice, record = async () => {}): Promise<StartResult> {
      if (isAlive(context.process)) return { process: context.process };
      signal.throwIfAborted();
      const { dir, machine, box } = context;
      const layers = layersOf(context);
      const upper = join(dir, 'upper');
      await ensureVolumes(volumesOf(context), volumeSource(layers, upper), { empty: false });
      signal.throwIfAborted();
      const config = configOf(context, notice);
      writeConfig(dir, config);
      const cgroup = createCgroup(cgroupOf(context), config.linux?.resources ?? {}, { strict: false });
      const disks = limitedDisks(config.linux?.resources ?? {});
      for (const text of [...noLimit(cgroup.missing), ...noDisk(machine, disks)]) notice(text);
      const stdin = openSync('/dev/null', O.RDONLY);
      const opened = [stdin];
      try {
        const { uid = 0, gid = 0 } = config.process?.user ?? {};
        const disks = await mountDisks(context, { uid, gid }, signal, notice);
        opened.push(...disks.map(({ mount }) => mount));
        const output = openOutput(context, config.process?.args ?? []);
        opened.push(...output.opened);
        const container = await createContainer({
          name: machine.name,
          config,
          bundle: dir,
          layers: { ...layers, upper, work: join(dir, 'work') },
          cgroup,
          files: networkFiles(context),
          stdio: { stdin, stdout: output.fd, stderr: output.fd },
          keeper: output.keeper,
          init: containerProcess(machine, box.defaults).init,
          mounts: new Map(disks.map(({ file, mount }) => [file, mount])),
          idmapOptional: true,
          connect: (pid) => options.connect(context, pid),
        });
        remember(dir, container.kept ?? Promise.resolve());
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
        for (const fd of opened) closeSync(fd);
      }
    },

    async ending(context): Promise<Ending> {
      // It writes the exit status once it has read all output: the log is complete, too.
      await keepers.get(context.dir);
      const ending = readEnding(context.dir) ?? lostEnding();
      const cgroup = cgroupOf(context);
      const starved = oomKills(cgroup) > 0 && (ending.signal === 'KILL' || ending.code === 128 + SIGKILL);
      await removeCgroup(cgroup, { parents: false });
      return starved ? { ...ending, why: 'oom' } : ending;
    },

    adopt: (context) => {
      const { process, dir, machine } = context;
      if (!isAlive(process)) return;
      endLeftovers(process.pid);
      // Where the one before was killed as it gave it others.
      restoreLimits(existingCgroup(context), limitedDisks(readConfig(dir)?.linux?.resources ?? {}), machine);
      const keeper = keeperOf(process.pid);
      if (keeper !== undefined) remember(dir, waitExit(keeper.pid));
    },

    signal: ({ process }, signal) => void signalProcess(process, signal),

    stop,

    async adjust(context, wanted, _signal, notice) {
      const { dir, machine } = context;
      const config = readConfig(dir);
      const disks = limitedDisks(config?.linux?.resources ?? {});
      for (const text of adjustLimits(existingCgroup(context), disks, machine, wanted)) notice(text);
      if (config?.linux === undefined) return;
      const resources = { ...config.linux.resources, ...limitsOf(wanted, disks) };
      writeConfig(dir, { ...config, linux: { ...config.linux, resources } });
    },

    async pause(context, on) {
      const cgroup = existingCgroup(context);
      if (!on) {
        if (isFrozen(cgroup)) thaw(cgroup);
        return;
      }
      if (!canFreeze(cgroup)) {
        throw new TsvError('TSV_UNSUPPORTED', `${context.machine.name} cannot be paused: it has no cgroup of its own`, {
          details: ['signals would stop its processes as well, but they would notice, and could go on by themselves'],
          hint: `${cgroupMend}\ntsv doctor tells more`,
        });
      }
      await freeze(cgroup);
    },

    async saveLayer(context, target) {
      const { process, dir } = context;
      if (!isAlive(process)) throw await notRunning(context);
      const folder = (path: string) => () => openSync(path, O.RDONLY | O.DIRECTORY | O.NOFOLLOW);
      const outside = [
        ...volumesOf(context)
          .filter((volume) => !volume.readonly)
          .map((volume) => ({ what: `the volume ${volume.path}`, open: folder(volume.folder) })),
        ...diskPlaces(context).map(({ path }) => ({
          what: `the disk at ${path}`,
          open: () => openInside(process.pid, path, O.RDONLY | O.DIRECTORY),
        })),
      ];
      await saveUpper(join(dir, 'upper'), target, existingCgroup(context), outside);
    },

    async destroy(context, { keepVolumes = false, keepDisks = false } = {}) {
      await stop(context, { force: true });
      const names = [
        'upper',
        'work',
        'lower',
        'rootfs',
        'identity',
        ...configFiles,
        ...Object.values(keptFiles),
        ...rotated,
        snapshotsFolder,
        ...swapFolders,
      ];
      for (const name of [...names, ...(keepVolumes ? [] : ['volumes']), ...(keepDisks ? [] : [stateFiles.disks])])
        rmSync(join(context.dir, name), { recursive: true, force: true });
      for (const { file } of diskPlaces(context)) rmSync(unfinished(file), { force: true });
    },

    snapshots,
    clone: cloneContainer,

    async connect(context): Promise<Transport> {
      const { process, machine } = context;
      if (!isAlive(process)) throw await notRunning(context);
      return new ContainerTransport({
        name: machine.name,
        process,
        config: readConfig(context.dir) ?? configOf(context),
        cgroupFolders: () => cgroupOf(context).members.flatMap(({ folder }) => (existsSync(folder) ? [folder] : [])),
        copier: {
          program: options.copyProgram,
          uids: ids,
          gids: ids,
          rooted: map.rooted,
          label: `tsv:${context.projectName}`,
        },
        dial: options.dial,
      });
    },
  };
}

const rotated = [`${keptFiles.log}.1`, `${keptFiles.times}.1`];

/** Where a container prints to, and who reads that. */
interface Output {
  readonly fd: number;
  readonly keeper: Keeper;
  /** To be closed, with `fd`, once the container has been started. */
  readonly opened: readonly number[];
}

/** The end of what a container printed. */
function lastWords(dir: string): string[] {
  const lines = lastLines(dir, { lines: 10, bytes: 4096 });
  return lines.length === 0 ? ['it printed nothing'] : lines;
}

/** What `create` remembers of an image: for `stop`, and for people. */
interface ImageMemory {
  readonly stopSignal: number;
  readonly exposedPorts: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
}

const imageMemory = ({ memory }: MachineContext): Partial<ImageMemory> | undefined =>
  memory.image as Partial<ImageMemory> | undefined;

const cgroupMend = 'systemd-run --user --scope -p Delegate=yes tsv up   # needs cgroup v2; or run as root';

/**
 * The machine's cgroups. Beside v1 the unified hierarchy adds nothing but the time that moving a process there takes.
 */
function placeMachine(layout: CgroupLayout, { projectId, machine }: MachineContext): Cgroup {
  const controllers = [...limited, 'devices', 'freezer', ...(machine.io === undefined ? [] : ['blkio'])];
  const cgroup = placeBelowBase(layout, `tsv/${projectId}/${machine.name}`, controllers);
  const v1 = cgroup.members.filter(({ version }) => version === 1);
  return v1.length === 0 ? cgroup : { ...cgroup, members: v1 };
}

/** The device behind a node of the host, by its numbers. */
function deviceRule(path: string, access: string): OciDeviceRule {
  const stat = statSync(path);
  return { allow: true, type: stat.isBlockDevice() ? 'b' : 'c', ...deviceNumber(stat.rdev), access };
}

/** Whether `promise` was fulfilled within `ms`. */
async function within(promise: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const fulfilled = await Promise.race([
    promise.then(() => true),
    new Promise<false>((resolve) => {
      timer = setTimeout(resolve, ms, false);
    }),
  ]);
  clearTimeout(timer);
  return fulfilled;
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
