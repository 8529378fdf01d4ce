import type { ProcessRef } from './state.ts';

/** A long-running helper or VM process that outlives the agent. */
export interface LaunchRequest {
  /** argv[0] is looked up in PATH. */
  readonly argv: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Where it runs: in the sandbox's network namespace or in the caller's. */
  readonly net: 'sandbox' | 'host';
  /** File that gets stdout and stderr (appended); absent: /dev/null. */
  readonly logFile?: string;
  /** Folder that gets the file `exit`, which says how the process ended, even if the agent did not live to see it. */
  readonly exitDir?: string;
  /** Open descriptors that the process finds as 3, 4, …, in this order. */
  readonly fds?: readonly number[];
  /** Taps of its network namespace, opened for it: descriptors 16, 17, …, in this order. Seven of `fds` at most then. */
  readonly taps?: readonly string[];
  /** Only where root of the host launches it. */
  readonly jail?: Jail;
}

/** A user of its own, in a root of its own, for a process that is to be nobody on the host. */
export interface Jail {
  /** Also its only group. */
  readonly uid: number;
  /** A folder that the new root covers; outside nothing is seen of that. */
  readonly root: string;
  readonly mounts: readonly JailMount[];
  /** Character devices that everybody in there may use. `number`: as `rdev` of stat(2). */
  readonly devices: readonly { readonly path: string; readonly number: number }[];
  readonly files: readonly { readonly path: string; readonly content: Uint8Array }[];
  readonly links: readonly { readonly to: string; readonly target: string }[];
}

/** A file or folder of the host at a place inside: `from` and `to` are absolute, `to` without `..` and links. */
export interface JailMount {
  readonly from: string;
  readonly to: string;
  readonly folder: boolean;
  readonly writable: boolean;
  /** What is there may be executed. */
  readonly programs?: true;
}

/** Starts processes detached: they live on when the agent dies. */
export interface Launcher {
  launch(request: LaunchRequest): Promise<ProcessRef>;
  /** Resolves when the process is gone; at once if it is gone already. Works for processes that are no children. */
  exited(process: ProcessRef): Promise<void>;
  /** Sends a signal if, and only if, the process is still the same one. false: it is gone. */
  kill(process: ProcessRef, signal: NodeJS.Signals): boolean;
}

/** TCP connections made inside the sandbox's network namespace. */
export interface Dialler {
  dial(host: string, port: number, options?: { timeoutMs?: number }): Promise<import('node:stream').Duplex>;
}
