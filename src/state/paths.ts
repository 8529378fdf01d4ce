import { lstatSync, realpathSync, type Stats } from 'node:fs';
import { homedir } from 'node:os';
import { basename, isAbsolute, join } from 'node:path';
import { TsvError } from '../model/errors.ts';
import type { Disk } from '../model/project.ts';
import { fnv1a } from './names.ts';
import { OwnFolder } from './own-folder.ts';

/** Name of the state folder inside the project folder; also the line that `.gitignore` gets. */
export const stateDirName = '.ts-vm';

/** File names inside `.ts-vm`. docs/state.md says who writes each and when it goes. */
export const stateFiles = {
  state: 'state.json',
  journal: 'journal.ndjson',
  journalOld: 'journal.old.ndjson',
  events: 'events.ndjson',
  eventsOld: 'events.old.ndjson',
  lock: 'lock',
  lockHolder: 'lock.holder',
  agentLog: 'agent.log',
  tsfileNote: 'tsfile.json',
  machines: 'machines',
  disks: 'disks',
  volumes: 'volumes',
  snapshots: 'snapshots',
} as const;

/** Temporary files of {@link stateFiles}: `NAME.<16 hex>.tmp`. */
export const temporaryName = /^(state\.json|lock\.holder)\.[0-9a-f]{16}\.tmp$/;

export interface ProjectPaths {
  /** `.ts-vm` */
  readonly stateDir: string;
  readonly stateFile: string;
  readonly journal: string;
  /** What `journal` was before it reached its size limit. */
  readonly journalOld: string;
  /** The file that is flock'ed. */
  readonly lock: string;
  /** Who has flock'ed it. */
  readonly lockHolder: string;
  readonly agentLog: string;
  /** What the last `up` read from the Tsfile, so that `status` need not parse it. */
  readonly tsfileNote: string;
  readonly machinesDir: string;
  /** `.ts-vm/machines/NAME`; throws for a name that is not a DNS label, so that no name leads out of the folder. */
  machineDir(name: string): string;
  readonly volumesDir: string;
  /** `.ts-vm/volumes/NAME`; throws as {@link machineDir} does. */
  volumeDir(name: string): string;
  /** A file for each snapshot. */
  readonly snapshotsDir: string;
}

/** Every path of a project's state folder. Touches nothing. */
export function projectPaths(projectDir: string): ProjectPaths {
  const stateDir = join(projectDir, stateDirName);
  // join() looks at each character again, which `ls` feels: it asks for the paths of many projects.
  const below = (name: string) => `${stateDir}/${name}`;
  const machinesDir = below(stateFiles.machines);
  const volumesDir = below(stateFiles.volumes);
  return {
    stateDir,
    stateFile: below(stateFiles.state),
    journal: below(stateFiles.journal),
    journalOld: below(stateFiles.journalOld),
    lock: below(stateFiles.lock),
    lockHolder: below(stateFiles.lockHolder),
    agentLog: below(stateFiles.agentLog),
    tsfileNote: below(stateFiles.tsfileNote),
    machinesDir,
    machineDir: (name) => `${machinesDir}/${checkedName(name)}`,
    volumesDir,
    volumeDir: (name) => `${volumesDir}/${checkedVolume(name)}`,
    snapshotsDir: below(stateFiles.snapshots),
  };
}

/**
 * Image of a container's disk: in the machine's folder, or, where `destroy` is to leave it, in `.ts-vm/disks/NAME`. The disk's
 * name was checked to be a plain word by the Tsfile's schema.
 */
export const diskImage = (machineDir: string, { name, keep }: Pick<Disk, 'name' | 'keep'>): string =>
  join(keep === true ? keptDisksDir(machineDir) : join(machineDir, stateFiles.disks), `${name}.img`);

/** The disk that a virtual machine boots from: qcow2. */
export const vmDiskFile = (machineDir: string): string => join(machineDir, 'disk.qcow2');

/** The same of a virtual machine's: qcow2, and always in its folder. */
export const dataDiskFile = (machineDir: string, { name }: Pick<Disk, 'name'>): string =>
  join(machineDir, stateFiles.disks, `${name}.qcow2`);

/** The folder of a machine's disks that `destroy` leaves. */
export const keptDisksDir = (machineDir: string): string =>
  join(machineDir, '..', '..', stateFiles.disks, basename(machineDir));

/** RFC 1123 label: what a machine or network may be called, and so what may become part of a path. */
export const nameLabel = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

function checkedName(name: string): string {
  if (nameLabel.test(name)) return name;
  throw new TsvError('TSV_INTERNAL', `${JSON.stringify(name)} is not a machine's name`);
}

/** What a volume may be called: as Docker has it, and never what a folder of unfinished ones is called, which begins with a dot. */
export const volumeName = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/;

function checkedVolume(name: string): string {
  if (volumeName.test(name)) return name;
  throw new TsvError('TSV_INTERNAL', `${JSON.stringify(name)} is not a volume's name`);
}

/** Longest path that fits sockaddr_un.sun_path with its final NUL (unix(7)). */
export const socketPathLimit = 107;
/** Longest folder and file name below a run folder: `/` 24 for the machine, `/` 16 for the socket. */
const belowRunDir = 1 + 24 + 1 + 16;
const idLength = 16;

/** The parts of the host that {@link runDir} asks about. */
export interface RunDirHost {
  readonly uid: number;
  readonly userRunBase: string;
  readonly tmp: string;
}

const thisHost = (): RunDirHost => ({ uid: process.getuid?.() ?? 0, userRunBase: '/run/user', tmp: '/tmp' });

export interface RunPaths {
  /** The folder of this project's sockets. */
  readonly dir: string;
  /** The agent's socket. */
  readonly agentSocket: string;
  /** Folder for a machine's sockets; at most 16 bytes of file name fit below it. */
  machineDir(name: string): string;
}

/**
 * The run folder of a project: `BASE/<FNV-1a of the real path>`, where BASE is the first of
 * `$XDG_RUNTIME_DIR/tsv`, `/run/user/UID/tsv`, `/tmp/tsv-UID` that exists as a folder of this user's (the last
 * is made when needed) and is short enough for socket paths. Creates nothing and proves nothing: whoever puts
 * something there takes {@link ensureRunDir}, whoever connects to a socket there {@link existingRunDir}.
 *
 * The agent runs as uid 0 of the sandbox's user namespace and would compute another folder: it has to be told
 * this one by the command that starts it.
 * @throws TSV_STATE_UNSAFE when `/tmp/tsv-UID` is there and is not a private folder of this user's
 */
export function runDir(projectDir: string, env: NodeJS.ProcessEnv, host: RunDirHost = thisHost()): string {
  const id = fnv1a(realpathSync(projectDir)).slice(0, idLength);
  return join(runBase(env, host), id);
}

/** {@link runDir}, made (0700) and proven to be this user's. */
export function ensureRunDir(projectDir: string, env: NodeJS.ProcessEnv, host: RunDirHost = thisHost()): string {
  const dir = runDir(projectDir, env, host);
  OwnFolder.ensure(runBase(env, host)).close();
  OwnFolder.ensure(dir).close();
  return dir;
}

/** {@link runDir}, proven to be this user's; undefined when it is not there. Creates nothing. */
export function existingRunDir(
  projectDir: string,
  env: NodeJS.ProcessEnv,
  host: RunDirHost = thisHost(),
): string | undefined {
  const dir = runDir(projectDir, env, host);
  for (const path of [runBase(env, host), dir]) {
    const folder = OwnFolder.open(path);
    if (folder === undefined) return undefined;
    folder.close();
  }
  return dir;
}

/** Every path of a run folder. Touches nothing. */
export function runPaths(dir: string): RunPaths {
  return {
    dir,
    agentSocket: socketPath(dir, 'agent.sock'),
    machineDir: (name) => join(dir, shortName(checkedName(name))),
  };
}

/** `dir/name`, checked to fit a socket address. */
export function socketPath(dir: string, name: string): string {
  const path = join(dir, name);
  if (Buffer.byteLength(path) <= socketPathLimit) return path;
  throw new TsvError('TSV_INTERNAL', `socket path longer than ${socketPathLimit} bytes: ${path}`);
}

/** At most 24 bytes: long names end in a hash instead of their tail. */
function shortName(name: string): string {
  if (name.length <= 24) return name;
  return `${name.slice(0, 15)}-${fnv1a(name).slice(0, 8)}`;
}

function runBase(env: NodeJS.ProcessEnv, host: RunDirHost): string {
  for (const base of [env.XDG_RUNTIME_DIR, join(host.userRunBase, String(host.uid))]) {
    if (base === undefined || !isAbsolute(base)) continue;
    const own = join(base, 'tsv');
    const fits = Buffer.byteLength(own) + 1 + idLength + belowRunDir <= socketPathLimit;
    // After `su` the variable may still name the other user's folder: not ours, not used.
    if (fits && isPrivateDirectory(base, host.uid)) return own;
  }
  const fallback = join(host.tmp, `tsv-${host.uid}`);
  const stat = lstatOrUndefined(fallback);
  if (stat !== undefined && !(stat.isDirectory() && stat.uid === host.uid && (stat.mode & 0o077) === 0)) {
    throw new TsvError('TSV_STATE_UNSAFE', `${fallback} is not a private folder of this user`, {
      details: [
        stat.isDirectory() ? `owner ${stat.uid}, mode 0${(stat.mode & 0o777).toString(8)}` : 'it is not a folder',
      ],
      hint: `remove ${fallback}, or set XDG_RUNTIME_DIR to a folder that only this user can use`,
    });
  }
  return fallback;
}

function isPrivateDirectory(path: string, uid: number): boolean {
  const stat = lstatOrUndefined(path);
  return stat?.isDirectory() === true && stat.uid === uid && (stat.mode & 0o022) === 0;
}

function lstatOrUndefined(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}

/** The per-user store of boxes and images: `$TSV_STORE`, `$XDG_DATA_HOME/ts-vm` or `~/.local/share/ts-vm`. */
export function storeDir(env: NodeJS.ProcessEnv): string {
  const own = env.TSV_STORE;
  if (own !== undefined && isAbsolute(own)) return own;
  const data = env.XDG_DATA_HOME; // the XDG base directory specification: a relative path is to be ignored
  if (data !== undefined && isAbsolute(data)) return join(data, 'ts-vm');
  return join(env.HOME ?? homedir(), '.local', 'share', 'ts-vm');
}

/** What is remembered of KVM on this host: docs/kvm.md. */
export const kvmTrialFile = (store: string): string => join(store, 'kvm-trial.json');
