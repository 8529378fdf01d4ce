/**
 * The one error class. A user sees what failed (message), where and why (details), and what to do (hint);
 * a stack trace is shown only for errors that are not a TsvError.
 */
export class TsvError extends Error {
  override readonly name = 'TsvError';
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly details: readonly string[];
  readonly exitCode: number;

  constructor(
    code: ErrorCode,
    message: string,
    options: { hint?: string; details?: readonly string[]; cause?: unknown; exitCode?: number } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
    this.details = options.details ?? [];
    this.exitCode = options.exitCode ?? 1;
  }

  /** By name: the built command and its parts are bundles of their own, each with this class in it. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    return value instanceof Error && value.name === 'TsvError';
  }

  /** The form that crosses the agent's socket. */
  toJSON(): ErrorData {
    return {
      code: this.code,
      message: this.message,
      ...(this.hint === undefined ? {} : { hint: this.hint }),
      ...(this.details.length === 0 ? {} : { details: this.details }),
      exitCode: this.exitCode,
    };
  }

  static fromJSON(data: ErrorData): TsvError {
    return new TsvError(data.code, data.message, data);
  }
}

export interface ErrorData {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint?: string;
  readonly details?: readonly string[];
  readonly exitCode?: number;
}

/** Every code that a user can meet, each listed with its meaning in docs/errors.md. */
export const errorCodes = {
  TSV_USAGE: 'the command line is wrong',
  TSV_NO_TSFILE: 'no Tsfile.yaml in this folder or above it',
  TSV_TSFILE_INVALID: 'the Tsfile has mistakes, all listed',
  TSV_UNKNOWN_MACHINE: 'a name on the command line is no machine of this project',
  TSV_NOT_RUNNING: 'the command needs a running machine',
  TSV_EXISTS: 'a file that would be written is already there',
  TSV_HOST_MISSING: 'this host lacks something that is needed',
  TSV_STATE_CORRUPT: 'the state file cannot be read',
  TSV_STATE_NEWER: 'the state file was written by a newer tsv',
  TSV_STATE_UNSAFE: 'the state folder is not a plain folder of this user',
  TSV_STATE_WRITE: 'the state could not be written',
  TSV_LOCKED: 'another tsv holds the project',
  TSV_SANDBOX: 'the sandbox could not be made or entered',
  TSV_NETWORK: 'a network could not be set up',
  TSV_SUBNET: 'no free subnet or address',
  TSV_PORT_TAKEN: 'a forwarded port is in use on the host',
  TSV_UNKNOWN_BOX: 'no box of this name',
  TSV_BOX_BUILD: 'a box could not be built',
  TSV_IMAGE: 'an image is malformed, or asks for what is refused',
  TSV_IMAGE_UNKNOWN: 'no image, tag or repository of this name',
  TSV_REGISTRY: 'a registry could not be reached, or failed',
  TSV_REGISTRY_LOGIN: 'a registry wants other credentials, or any',
  TSV_DOWNLOAD: 'a download failed',
  TSV_DIGEST: 'content does not have the digest or the size that it should have',
  TSV_STORE: 'the store could not be read or written',
  TSV_CACHE: 'what a provisioning step has made cannot be kept, or is not there any more',
  TSV_IN_USE: 'what would be removed is in use',
  TSV_LOCK_FILE: 'Tsfile.lock cannot be read, or does not fit the Tsfile',
  TSV_SYSCALL: 'a system call failed',
  TSV_CONTAINER_START: 'a container could not be started',
  TSV_BUNDLE: 'a bundle or its config.json is missing or not valid',
  TSV_CONTAINER_UNKNOWN: 'no container of this id',
  TSV_CONTAINER_EXISTS: 'a container of this id is already there',
  TSV_CONTAINER_STATE: 'the container is not in a state for this command',
  TSV_HOOK: "a hook of a bundle's lifecycle failed",
  TSV_CGROUP: 'a resource limit could not be set',
  TSV_SECCOMP: 'a system call filter could not be made',
  TSV_COMMAND_NOT_FOUND: 'the command does not exist in the machine',
  TSV_VM_START: 'QEMU could not be started',
  TSV_TEMPLATE: 'no template for warm starts could be made',
  TSV_VM_ACCEL: 'the wanted acceleration is not usable',
  TSV_SNAPSHOT: 'a snapshot could not be saved or restored',
  TSV_CLONE: 'a machine could not be copied',
  TSV_VM_DIED: 'QEMU ended unexpectedly',
  TSV_WAIT: 'a machine did not become ready in time',
  TSV_UNHEALTHY: 'a health check did not succeed',
  TSV_ONESHOT: 'a one-shot machine did not end with 0',
  TSV_SSH: 'an SSH connection failed',
  TSV_HOST_KEY: 'a machine shows another host key than the pinned one',
  TSV_PROVISION: 'a provisioning step failed',
  TSV_COPY: 'files could not be copied',
  TSV_UNSUPPORTED: 'this is not possible for this kind of machine',
  TSV_CANCELLED: 'the command was interrupted',
  TSV_STEPS_FAILED: 'some steps of the plan failed',
  TSV_AGENT: "the project's agent could not be started or reached",
  TSV_PROTOCOL: 'command and agent did not understand each other',
  TSV_INTERNAL: 'a defect in tsv',
} as const;

export type ErrorCode = keyof typeof errorCodes;

/** A TsvError as it is; anything else wrapped as TSV_INTERNAL with its stack kept as the cause. */
export function toTsvError(error: unknown): TsvError {
  if (error instanceof TsvError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new TsvError('TSV_INTERNAL', message, { cause: error });
}
