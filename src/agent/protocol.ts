import { type ErrorData, TsvError } from '../model/errors.ts';
import type { TsvEvent } from '../model/events.ts';
import type { Plan } from '../model/plan.ts';
import type { Forward, Machine, Project } from '../model/project.ts';
import type { ExecRequest, ExecResult, PackRequest, UnpackRequest } from '../model/provider.ts';
import type { Condition, Waited } from '../model/waiting.ts';
import type { SnapshotCommand } from '../plan/snapshots.ts';

/*
 * Command and agent speak over a Unix socket, one JSON value per line:
 *
 *   command                         agent
 *   {request} ─────────────────────▶
 *                ◀───────────────── {event} …                (command: what it does)
 *                ◀───────────────── {result} | {error}       and the connection ends
 *   or, for exec, attach, pack, unpack, connect and one-off:
 *                ◀───────────────── {event} …                (one-off)
 *                ◀───────────────── {stream: true}           from here on no lines but
 *   frames or, for connect, bytes in both directions
 *
 * A command that closes its connection has been interrupted.
 */
export const protocolVersion = 2;

export interface Request {
  readonly version: typeof protocolVersion;
  /** Who asks: pid and command line, for the messages of others who wait. */
  readonly client: { readonly pid: number; readonly command: string };
  readonly call: Call;
}

export type ProjectCommand =
  | {
      readonly command: 'up' | 'reload';
      readonly project: Project;
      readonly targets: readonly string[];
      readonly provision: boolean | 'force';
      /** false: only for what other machines depend on. */
      readonly wait: boolean;
      /** For all waits together. */
      readonly timeoutMs?: number;
      /** Machines are made without the provision cache, which is made anew. Absent: false. */
      readonly noCache?: boolean;
      readonly boxes: Readonly<Record<string, string>>;
      readonly note: unknown;
    }
  | {
      readonly command: 'provision';
      readonly project: Project;
      readonly targets: readonly string[];
      readonly only?: string;
      /** New machines run these steps, too. Absent: false. */
      readonly noCache?: boolean;
    }
  | {
      readonly command: 'halt' | 'destroy';
      readonly project: Project | undefined;
      readonly targets: readonly string[];
      readonly force?: boolean;
    }
  | {
      readonly command: 'volume rm';
      readonly project?: undefined;
      /** Names of volumes. */
      readonly targets: readonly string[];
    }
  | (SnapshotCommand & { readonly project?: undefined })
  | {
      readonly command: 'pause' | 'unpause' | 'suspend' | 'resume';
      readonly project?: undefined;
      readonly targets: readonly string[];
    }
  | {
      readonly command: 'rename' | 'clone';
      readonly project: Project;
      readonly from: string;
      readonly to: string;
    }
  | {
      readonly command: 'restart';
      /** Machines start as the state has them. */
      readonly project?: undefined;
      readonly targets: readonly string[];
      /** To stop each; absent: each machine's own. */
      readonly stopTimeoutMs?: number;
    };

export type Call =
  | {
      readonly do: 'run';
      readonly command: ProjectCommand;
      readonly parallel: number;
      /** `timing` events are wanted. */
      readonly timings?: boolean;
    }
  | {
      readonly do: 'exec';
      readonly machine: string;
      readonly request: ExecRequest;
      readonly shell?: 'login' | 'command';
    }
  /**
   * `tsv run`: makes a container for one command, which is removed when that has ended, or who asked is gone. Events until it
   * runs, then frames as with exec; the last one comes when it has been removed.
   */
  | {
      readonly do: 'one-off';
      /** Its networks, and names that are taken. */
      readonly project: Project;
      /** Runs nothing by itself. It is renamed: to `name`, else to one that is free. */
      readonly machine: Machine;
      readonly name?: string;
      readonly boxes: Readonly<Record<string, string>>;
      readonly request: ExecRequest;
    }
  /** Frames as with exec, to and from a virtual machine's console. */
  | { readonly do: 'attach'; readonly machine: string }
  /** Frames as with exec; input or output is a tar archive, unless that goes through the request's FIFO. */
  | { readonly do: 'pack'; readonly machine: string; readonly request: PackRequest }
  | { readonly do: 'unpack'; readonly machine: string; readonly request: UnpackRequest }
  | { readonly do: 'connect'; readonly machine: string }
  /** `signal`: its number. */
  | { readonly do: 'signal'; readonly machines: readonly string[]; readonly signal: number }
  | { readonly do: 'forwards' }
  | {
      readonly do: 'wait';
      readonly machines: readonly string[];
      readonly until: Condition;
      readonly timeoutMs?: number;
    }
  | { readonly do: 'leave' };

export interface RunResult {
  readonly plan: Plan;
}

export interface WaitResult {
  /** In the order in which they were named. */
  readonly machines: readonly Waited[];
}

export interface ForwardsResult {
  readonly active: Readonly<Record<string, readonly Forward[]>>;
}

/** `again`: this agent is going; the caller starts or finds another one. */
export type Answer =
  | { readonly again: true }
  | { readonly event: TsvEvent }
  | { readonly result: unknown }
  | { readonly error: ErrorData }
  /** `direct`: see {@link CopySession}. */
  | { readonly stream: true; readonly direct?: boolean };

/** Frames of an exec stream: one byte type, four bytes length (big endian), content. */
export const frame = {
  stdin: 0,
  stdout: 1,
  stderr: 2,
  /** JSON of {@link ExecResult}; the last frame. */
  exit: 3,
  /** JSON `{cols, rows}`. */
  resize: 4,
  /** A signal's name. */
  signal: 5,
  /** Standard input has ended. */
  eof: 6,
  /** JSON of ErrorData; the last frame. */
  error: 7,
} as const;

export type FrameType = (typeof frame)[keyof typeof frame];
export type { ExecRequest, ExecResult };

export function encodeFrame(type: FrameType, content: Buffer | string = ''): Buffer {
  const body = typeof content === 'string' ? Buffer.from(content) : content;
  const head = Buffer.alloc(5);
  head.writeUInt8(type, 0);
  head.writeUInt32BE(body.length, 1);
  return Buffer.concat([head, body]);
}

const headBytes = 5;
/** Larger frames are a mistake of the other side. */
const frameLimit = 1 << 24;

/** Feeds on chunks, calls back with whole frames. */
export function frameReader(onFrame: (type: number, content: Buffer) => void): (chunk: Buffer) => void {
  let chunks: Buffer[] = [];
  let length = 0;
  /** So many bytes are waited for. */
  let wanted = headBytes;
  return (chunk) => {
    chunks.push(chunk);
    length += chunk.length;
    if (length < wanted) return;
    let data = chunks.length === 1 ? chunk : Buffer.concat(chunks);
    wanted = headBytes;
    while (data.length >= headBytes) {
      const size = data.readUInt32BE(1);
      if (size > frameLimit) throw new Error('frame too large');
      wanted = headBytes + size;
      if (data.length < wanted) break;
      onFrame(data.readUInt8(0), data.subarray(headBytes, wanted));
      data = data.subarray(wanted);
      wanted = headBytes;
    }
    chunks = data.length === 0 ? [] : [data];
    length = data.length;
  };
}

/** Feeds on what comes for a command or a copy, and calls back with copies: the chunks' memory is used again. */
export function replyReader(on: {
  stdout(content: Buffer): void;
  stderr(content: Buffer): void;
  exit(result: ExecResult): void;
  error(error: TsvError): void;
}): (chunk: Buffer) => void {
  return frameReader((type, content) => {
    if (type === frame.stdout) on.stdout(Buffer.from(content));
    else if (type === frame.stderr) on.stderr(Buffer.from(content));
    else if (type === frame.exit) on.exit(JSON.parse(content.toString('utf8')) as ExecResult);
    else if (type === frame.error) on.error(TsvError.fromJSON(JSON.parse(content.toString('utf8')) as ErrorData));
  });
}

/** Feeds on chunks, calls back with lines; returns what follows once `stop` was called from a line. */
export function lineReader(
  onLine: (line: string, stop: () => void) => void,
  onRest?: (rest: Buffer) => void,
): (chunk: Buffer) => void {
  let pending: Buffer = Buffer.alloc(0);
  let stopped = false;
  return (chunk) => {
    pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
    for (let end = pending.indexOf(10); end >= 0 && !stopped; end = pending.indexOf(10)) {
      const line = pending.subarray(0, end).toString('utf8');
      pending = pending.subarray(end + 1);
      onLine(line, () => {
        stopped = true;
      });
    }
    if (stopped && pending.length > 0) {
      const rest = pending;
      pending = Buffer.alloc(0);
      onRest?.(rest);
    }
  };
}
