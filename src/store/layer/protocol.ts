import type { ErrorData } from '../../model/errors.ts';
import type { UserMap } from '../../sys/userns.ts';
import type { UnpackLimits } from './limits.ts';
import type { LayerBlob, UnpackedLayer } from './unpacker.ts';

/*
 * Between the command and a process that unpacks:
 *
 *   command                             process
 *     begin {…}  ───────────────────▶
 *                ◀───────────────────  {"waiting":true} while another process makes it, then
 *                ◀───────────────────  {"begun":true}, or {"there":true}: then that was all
 *     data       ───────────────────▶  as often as need be; the pipe holds the command back
 *     finish     ───────────────────▶
 *                ◀───────────────────  {"done":{…}}
 *     or abandon ───────────────────▶
 *                ◀───────────────────  {"abandoned":true}
 *
 * {"error":{…}} may come at any time instead; it is the last answer, and data that still come are dropped. Then the next
 * layer. The end of its input ends the process, which leaves nothing that is not finished.
 */

export interface Begin extends LayerBlob {
  readonly map: UserMap;
  readonly folder: string;
  readonly limits: UnpackLimits;
}

export type Answer =
  | { readonly begun: true }
  | { readonly there: true }
  | { readonly done: UnpackedLayer }
  | { readonly abandoned: true }
  | { readonly error: ErrorData };

/** It waits for a lock and reads nothing until it has it. */
export interface Waiting {
  readonly waiting: true;
}

/** The first byte of a frame; its length follows, 4 bytes, big end first. */
export const frameKinds = { begin: 1, data: 2, finish: 3, abandon: 4 } as const;
export type FrameKind = keyof typeof frameKinds;

const headBytes = 5;
/** A frame of data is no larger; whoever writes cuts. */
export const dataMax = 1 << 20;

export function frameHead(kind: FrameKind, length: number): Buffer {
  const head = Buffer.alloc(headBytes);
  head.writeUInt8(frameKinds[kind], 0);
  head.writeUInt32BE(length, 1);
  return head;
}

/** Frames out of a pipe. Data are given on as they come, in pieces of a frame; what else there is comes whole. */
export async function* readFrames(
  input: AsyncIterable<Buffer>,
): AsyncGenerator<{ kind: FrameKind; bytes: Buffer }, void, undefined> {
  const kinds = new Map<number, FrameKind>(Object.entries(frameKinds).map(([kind, byte]) => [byte, kind as FrameKind]));
  let held: Buffer = Buffer.alloc(0);
  let dataLeft = 0;
  for await (const chunk of input) {
    let rest: Buffer = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
    for (;;) {
      if (dataLeft > 0) {
        const bytes = rest.subarray(0, dataLeft);
        if (bytes.length === 0) break;
        dataLeft -= bytes.length;
        rest = rest.subarray(bytes.length);
        yield { kind: 'data', bytes };
        continue;
      }
      if (rest.length < headBytes) break;
      const kind = kinds.get(rest.readUInt8(0));
      const length = rest.readUInt32BE(1);
      if (kind === undefined) throw new Error(`a frame of the unknown kind ${rest.readUInt8(0)}`);
      if (kind === 'data') {
        dataLeft = length;
        rest = rest.subarray(headBytes);
        continue;
      }
      if (rest.length < headBytes + length) break;
      yield { kind, bytes: rest.subarray(headBytes, headBytes + length) };
      rest = rest.subarray(headBytes + length);
    }
    held = rest;
  }
}
