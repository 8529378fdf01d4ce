import type { Duplex, Readable, Writable } from 'node:stream';
import type { ContainerDefaults } from './image.ts';
import type { Machine, MachineKind } from './project.ts';
import type { SavedMachine, SavedPart } from './snapshot.ts';
import type { Ending, MachineAddress, Observed, ProcessRef, RunLimits } from './state.ts';
import type { Measure } from './timings.ts';

/** Everything a provider needs to know about one machine. */
export interface MachineContext {
  readonly machine: Machine;
  readonly projectId: string;
  readonly projectName: string;
  /** `.ts-vm/machines/NAME`, made by the caller before `create` and removed by it after `destroy`. */
  readonly dir: string;
  /** Folder for this machine's sockets, short enough for sun_path. */
  readonly runDir: string;
  /** Folder of a volume of the project, below `.ts-vm/volumes`: made and filled by whoever uses it first. */
  volumeDir(name: string): string;
  readonly box: BoxRef;
  readonly addresses: readonly MachineAddress[];
  /** The networks of `addresses`, by name. */
  readonly networks: Readonly<
    Record<
      string,
      { readonly bridge: string; readonly gateway: string; readonly prefix: number; readonly mode: 'nat' | 'isolated' }
    >
  >;
  /** What `create` and the last `start` gave back. */
  readonly memory: Readonly<Record<string, unknown>>;
  readonly process: ProcessRef | undefined;
}

/** A box or an image in the store, complete and frozen. Paths are absolute. */
export interface BoxRef {
  readonly name: string;
  readonly digest: string;
  /** For containers: folders of the root file system, owned through the user map; the uppermost first, as overlayfs takes them. */
  readonly layers?: readonly string[];
  /** Images: what they say about their containers. */
  readonly defaults?: ContainerDefaults;
  /** VM boxes. */
  readonly disk?: { readonly path: string; readonly format: 'raw' | 'qcow2'; readonly virtualBytes: number };
  readonly kernel?: string;
  readonly initrd?: string;
  /** Words for the kernel's command line, e.g. `root=/dev/vda rw`. */
  readonly cmdline?: string;
  /** VMs: the folder of the layer of the provision cache that the machine was made from: a disk, and the memory that it had. */
  readonly kept?: string;
  /** VM boxes: it has a program that makes another machine of a guest that runs. Absent: it has not. */
  readonly warm?: boolean;
  /** The ordinary user of the box; the user of the image. */
  readonly user: string;
}

export interface StartResult {
  readonly process: ProcessRef;
  readonly accel?: { readonly accel: 'kvm' | 'tcg'; readonly reason: string };
  /** VMs: see `MachineState.most`. */
  readonly most?: RunLimits;
  /** VMs: see `MachineState.boot`. */
  readonly boot?: 'warm' | 'cold';
}

/** Something the host lacks or has, and the command that mends it. */
export interface Requirement {
  /** Stable word: `kvm`, `qemu`, `dnsmasq`, `subuid`, … */
  readonly id: string;
  readonly description: string;
  readonly ok: boolean;
  /** false: it works without, less well. */
  readonly required: boolean;
  readonly detail: string;
  /** The exact command that mends it. */
  readonly mend?: string;
}

/**
 * One way to run a machine. Every method is idempotent, and says what "already so" gives back.
 * A provider never writes the state: it returns what must be remembered.
 */
export interface Provider {
  readonly kind: MachineKind;
  /** Asks the host, changes nothing. Called by `doctor` and before anything is created. */
  probe(): Promise<readonly Requirement[]>;
  /** Pure. What this kind cannot do for this machine; empty when all is well. */
  validate(machine: Machine): readonly string[];
  /** Never throws for "absent". */
  observe(context: MachineContext): Promise<Observed>;
  /** Makes disks, keys, folders. Already there: keeps them. Returns what to remember. */
  create(context: MachineContext): Promise<Readonly<Record<string, unknown>>>;
  /**
   * Returns when the process is up, not when it has booted. Already running: returns it.
   * `record` is called as soon as there is a process; the machine's own program runs only when that has resolved, so
   * that nothing runs which the state does not know.
   */
  start(
    context: MachineContext,
    signal: AbortSignal,
    notice: (text: string) => void,
    record?: (process: ProcessRef) => Promise<void>,
    /** It goes on with a memory that was saved, and on the disks of then; its CPUs stand still until `pause` lets them go on. */
    load?: Load,
  ): Promise<StartResult>;
  /**
   * How a machine that was not asked to end has ended; called once its process is gone. Tidies up what its end leaves, so
   * that it can be started again.
   */
  ending(context: MachineContext): Promise<Ending>;
  /** Called once for a machine that runs when a new agent takes over: ends what the old one's commands left, finishes its deeds. */
  adopt?(context: MachineContext): void;
  /**
   * The console of a machine that runs, from now on and both ways; several may have it at once. A signal ends the session,
   * not the machine. Absent where a machine has no input. @throws TSV_NOT_RUNNING
   */
  attach?(context: MachineContext): Promise<ExecSession>;
  /** Sends a signal to the machine's own first process. A virtual machine takes none but KILL, which ends its QEMU. */
  signal(context: MachineContext, signal: number): void;
  /**
   * Graceful, then by force after `timeoutMs`, or else `stopTimeoutMs` of the machine. Already stopped: success. `forced` is told
   * why force was needed though it was not asked for.
   */
  stop(
    context: MachineContext,
    options: { force: boolean; timeoutMs?: number; forced?: (why: string) => void },
  ): Promise<void>;
  /**
   * Gives a machine that runs the limits of `wanted`, of which a plan has found that they can change live; `context.machine` has
   * those that it has. Already so: success. @throws TSV_CGROUP, and what `connect` throws: the machine then counts as one
   * with its old limits, and as far as it can be, is one
   */
  adjust(context: MachineContext, wanted: Machine, signal: AbortSignal, notice: (text: string) => void): Promise<void>;
  /**
   * Stops all that runs in a machine, which does not notice, or lets it go on. Already so: success. What `stop` and `destroy`
   * end may be paused. @throws TSV_UNSUPPORTED where this host cannot do it
   */
  pause(context: MachineContext, on: boolean): Promise<void>;
  /**
   * Removes what `create` and `start` made, except disks with `keep`. Already gone: success. `keepVolumes`, `keepDisks`: the
   * data of an image's volumes, or all disks stay, for the machine that is made in its place.
   */
  destroy(
    context: MachineContext,
    options?: { readonly keepVolumes?: boolean; readonly keepDisks?: boolean },
  ): Promise<void>;
  readonly snapshots: Snapshots;
  /**
   * Puts a copy of what a machine that does not run has on disk into a folder, where `create` and `start` of `wanted` find it as
   * if it were theirs: files and disks, without snapshots, and without anything that says who the machine is.
   * @throws TSV_CLONE
   */
  clone(
    context: MachineContext,
    copy: {
      /** There, empty, and the caller's to move to its place or remove. */
      readonly folder: string;
      readonly wanted: Machine;
      readonly signal: AbortSignal;
    },
  ): Promise<void>;
  /**
   * Called when a machine has become reachable after a start: makes, in the background, what lets others like it start sooner.
   * What it says is for the agent's log.
   */
  prepare?(context: MachineContext, log: (text: string) => void): void;
  /**
   * Called for machines that run when nobody uses any of them: what they have left to do of a start, and nobody waits for.
   * Nothing left: success.
   */
  settle?(context: MachineContext): Promise<void>;
  /**
   * Tells a machine that stood still what it missed: the time; and gives it randomness of its own, since others may have gone on
   * from the same moment. false: it cannot be told this way.
   */
  awaken?(context: MachineContext): Promise<boolean>;
  /**
   * Whether a machine that went on from a template lets people in, as it says itself: it is at its address, and its SSH server
   * listens. false: it cannot be asked this way, or it does not.
   */
  answers?(context: MachineContext): Promise<boolean>;
  /**
   * Resolves when the system in a machine is as far as what is installed there may expect: it can be reached before that.
   * @throws the signal's reason
   */
  untilSystem?(transport: Transport, signal: AbortSignal): Promise<void>;
  /**
   * Puts all that has changed in a machine that runs, since it was made, into `folder`, as of one moment, in the form in which
   * a later machine of its box takes it as its uppermost layer. Absent where this kind has no layers.
   * @throws TSV_CACHE when no such moment can be had, or what was done is not in what a layer holds; TSV_STORE
   */
  saveLayer?(
    context: MachineContext,
    target: {
      /** There, empty, and the caller's to publish or remove. */
      readonly folder: string;
      /** The machine's start: what has changed since then in places that no layer holds would be lost. */
      readonly since: Date;
      readonly signal: AbortSignal;
    },
  ): Promise<void>;
  /**
   * A way in. Throws TSV_WAIT with the unmet requirement when it cannot be reached in time. `measured` is told of what was
   * waited for, one after the other.
   */
  connect(context: MachineContext, signal: AbortSignal, measured?: Measure): Promise<Transport>;
}

export type Load = Pick<SavedMachine, 'tag' | 'provider'>;

/** What is kept of a machine under a tag, beside what it is now. */
export interface Snapshots {
  /**
   * Keeps what the machine is. It stands still, by `pause`, or does not run. What a failure leaves goes by `delete`.
   * @throws TSV_SNAPSHOT
   */
  save(context: MachineContext, tag: string, signal: AbortSignal): Promise<SavedPart>;
  /** Why the machine cannot become what was saved, here and now; undefined: it can. Changes nothing. */
  problem(
    context: MachineContext,
    saved: Pick<SavedMachine, 'tag' | 'memory' | 'provider'>,
  ): Promise<string | undefined>;
  /**
   * A machine that runs, and has the disks and network cards of then, becomes what was saved with memory, and stands still.
   * false: it cannot without an end and a start. Where this fails it is neither what it was nor what was saved.
   */
  rewind?(context: MachineContext, saved: Load): Promise<boolean>;
  /** Disks and files become what was saved. The machine does not run. A part that was done already is done again. */
  restore(context: MachineContext, tag: string): Promise<void>;
  /** All that is kept, whole or not. */
  tags(context: MachineContext): Promise<readonly string[]>;
  /** Already gone: success. */
  delete(context: MachineContext, tag: string): Promise<void>;
}

export interface ExecRequest {
  readonly argv: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Absolute; absent: the user's home. */
  readonly cwd?: string;
  /** A name of the machine's /etc/passwd; absent: root. */
  readonly user?: string;
  /** A terminal of this size (in characters). */
  readonly pty?: { readonly cols: number; readonly rows: number; readonly term: string };
}

export interface ExecResult {
  /** Exit status, or 128 + signal number as a shell reports it. */
  readonly code: number;
  readonly signal?: string;
}

export interface ExecSession {
  readonly stdin: Writable;
  readonly stdout: Readable;
  /** With a pty this stream ends at once: a terminal has one output. */
  readonly stderr: Readable;
  resize(cols: number, rows: number): void;
  /** `TERM`, `INT`, `KILL` …: without the SIG. */
  signal(name: string): void;
  /** Resolves once, after the process ended and its output was delivered. */
  readonly exited: Promise<ExecResult>;
}

/** What a resource becomes in its archive, and what it is to be called where it goes to. Texts have one character per byte. */
export interface CopySource {
  /** The first word of all paths in the archive; `.`: the archive is the content of a folder. */
  readonly name: string;
  readonly folder: boolean;
  /** Its name in a folder that it is copied into. */
  readonly as: string;
}

/** A copy of files that runs. */
export interface CopySession extends ExecSession {
  /** The archive goes through the FIFO of the request, and not through the session's own streams. */
  readonly direct?: boolean;
}

export interface PackRequest {
  /** From the machine's root; a last `/.` means the content of a folder. */
  readonly path: string;
  /** A path that is a symbolic link stands for what that leads to. */
  readonly follow: boolean;
  readonly through?: Through;
}

export interface UnpackRequest {
  readonly path: string;
  /** Absent: any archive, for a folder that is there. */
  readonly source?: CopySource;
  /** Files keep the owners that the archive says; else they are root's. */
  readonly owners: boolean;
  readonly through?: Through;
}

/** The path of a FIFO that its maker holds open: for an archive that nobody in between has to see. Not all ways in use it. */
export type Through = string;

/** The one way that machines of both kinds are used: run, copy, connect. */
export interface Transport {
  exec(request: ExecRequest): Promise<ExecSession>;
  /** Writes a file whole or not at all (temporary name, then rename). `owner`: `user[:group]`. */
  put(content: Readable | Buffer, path: string, options?: { mode?: number; owner?: string }): Promise<void>;
  get(path: string): Promise<Readable>;
  /**
   * A tar archive of a file or folder as its output. Exit code 0: it is whole; else its errors say why, in words for people,
   * which may also come beside a whole one.
   */
  pack(request: PackRequest): Promise<CopySession>;
  /** Takes a tar archive as its input. As docker cp goes by what there is. Each file is there whole or as it was. */
  unpack(request: UnpackRequest): Promise<CopySession>;
  /** A TCP connection to a port of the machine. */
  dial(port: number): Promise<Duplex>;
  /** Fires when the way in is gone: the machine ended or the connection broke. */
  readonly closed: Promise<void>;
  close(): void;
  /** Closes it so that nothing of it is left in the machine. Absent: `close` does. */
  leave?(): Promise<void>;
}
