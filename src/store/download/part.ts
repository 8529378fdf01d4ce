import { TsvError } from '../../model/errors.ts';
import { backoff, type DownloadOptions } from './options.ts';
import { type RemoteBody, RemoteError, type RemoteFile } from './remote.ts';
import { Watch } from './watch.ts';

/** What all parts of one download share. */
export interface Source {
  readonly from: RemoteFile;
  /** Bytes of the whole file. */
  readonly size: number;
  readonly options: DownloadOptions;
  /** Of the file that the bytes so far are from. */
  validator: string | undefined;
  /** undefined: not known before the first answer. */
  ranges: boolean | undefined;
  /** Requests that were answered with bytes. */
  answers: number;
  /** Called when `validator` and `ranges` are known. */
  readonly onAnswer: () => void;
}

export interface Part {
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
  /** No other part is under way: if the whole file comes instead, this one goes to its end. */
  readonly alone: () => boolean;
  readonly signal: AbortSignal;
}

/** The file is another one than that of the bytes so far. */
export class FileChanged extends Error {}
/** A part was asked for and the whole file came. */
export class NoRanges extends Error {}

/**
 * The bytes of a part, in order. A connection that breaks, stalls or is refused for now is made again, from the byte
 * where it was. A server without ranges sends all from the start: what is there already is passed over.
 * @throws RemoteError when there is no more hope, FileChanged, NoRanges, TSV_DIGEST (another size), the signal's reason
 */
export async function* readPart(source: Source, part: Part): AsyncGenerator<Uint8Array> {
  const { from, size, options } = source;
  const patience = new Patience(options, part.start);
  let position = part.start;
  let end = part.end;
  while (position < end) {
    const watch = new Watch(from.name, options, part.signal);
    let failure: RemoteError | undefined;
    try {
      const answer = await watch.wait(() => from.open(request(source, position, end, watch.signal)));
      check(source, answer, position);
      if (!answer.ranges && end < size) {
        if (!part.alone()) throw new NoRanges();
        end = size;
      }
      let skip = position - answer.offset;
      for await (const chunk of watched(answer.body, watch)) {
        const fresh = skip === 0 ? chunk : chunk.subarray(Math.min(skip, chunk.length));
        skip -= chunk.length - fresh.length;
        const room = end - position;
        if (fresh.length > room && end === size) throw wrongSize(source, `more than ${size} bytes come`);
        const piece = fresh.length > room ? fresh.subarray(0, room) : fresh;
        position += piece.length;
        if (piece.length > 0) yield piece;
        if (fresh.length > room) break;
      }
    } catch (error) {
      if (part.signal.aborted) throw part.signal.reason;
      if (!(error instanceof RemoteError)) throw error;
      if (error.status === 416 && position > 0) throw new FileChanged();
      failure = error;
    } finally {
      watch.end();
    }
    if (position < end) {
      failure ??= new RemoteError(`${from.name}: the connection ended after ${position} of ${end} bytes`, {
        retry: true,
      });
      await options.sleep(patience.pause(failure, position), part.signal);
      if (part.signal.aborted) throw part.signal.reason;
    }
  }
}

/** Counts failures in a row. */
class Patience {
  private readonly options: DownloadOptions;
  private failures = 0;
  private progressAt: number;

  constructor(options: DownloadOptions, position: number) {
    this.options = options;
    this.progressAt = position;
  }

  /** ms until the next attempt. @throws the failure, when there shall be none */
  pause(failure: RemoteError, position: number): number {
    if (!failure.retry) throw failure;
    this.failures = position - this.progressAt >= this.options.progressBytes ? 1 : this.failures + 1;
    this.progressAt = position;
    if (this.failures >= this.options.attempts) throw failure;
    const ms = backoff(this.failures, failure.retryAfterMs, this.options);
    if (ms !== undefined) return ms;
    const asked = Math.round((failure.retryAfterMs ?? 0) / 1000);
    throw new RemoteError(`${failure.message}, and wants to be left alone for ${asked} s`, {
      retry: false,
      cause: failure,
    });
  }
}

const request = ({ size, validator }: Source, offset: number, end: number, signal: AbortSignal) => ({
  offset,
  ...(end < size ? { end } : {}),
  ...(validator === undefined ? {} : { validator }),
  signal,
});

/** Takes what an answer says about the file, and holds it against what is known. */
function check(source: Source, answer: RemoteBody, position: number): void {
  if (answer.total !== undefined && answer.total !== source.size) {
    throw wrongSize(source, `the server has one of ${answer.total} bytes`);
  }
  const same =
    source.validator === undefined || answer.validator === undefined || source.validator === answer.validator;
  if (!same && position > 0) throw new FileChanged();
  if (answer.offset > position) {
    throw new RemoteError(`${source.from.name}: asked from byte ${position} on, it answers from ${answer.offset} on`, {
      retry: false,
    });
  }
  source.validator = answer.validator ?? source.validator;
  source.ranges = answer.ranges;
  source.answers += 1;
  source.onAnswer();
}

function wrongSize({ from, size }: Source, why: string): TsvError {
  return new TsvError('TSV_DIGEST', `${from.name} does not have the size that it should have`, {
    details: [`${size} bytes are wanted, and ${why}`],
    hint: 'nothing of it was kept; ask whoever offers it',
  });
}

/** A body, each wait for which is watched. */
async function* watched(body: AsyncIterable<Uint8Array>, watch: Watch): AsyncGenerator<Uint8Array> {
  const iterator = body[Symbol.asyncIterator]();
  let done = false;
  try {
    for (;;) {
      const next = await watch.wait(() => iterator.next());
      if (next.done === true) {
        done = true;
        return;
      }
      watch.arrived(next.value.length);
      yield next.value;
    }
  } finally {
    if (!done) await iterator.return?.();
  }
}
