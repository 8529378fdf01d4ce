import { TsvError } from '../../model/errors.ts';
import { type DownloadOptions, downloadDefaults } from './options.ts';
import { FileChanged, NoRanges, readPart, type Source } from './part.ts';
import { Prefetch } from './prefetch.ts';
import { RemoteError, type RemoteFile } from './remote.ts';

/** Where the bytes go. */
export interface DownloadSink {
  /** In order. */
  write(bytes: Uint8Array): Promise<void> | void;
  /** All bytes so far are void; it starts again at 0. */
  restart(): Promise<void>;
  /** Before the first byte of each answer: what a later download can go on with. */
  answered(about: { readonly validator: string | undefined; readonly ranges: boolean }): void;
}

export interface DownloadRequest {
  readonly from: RemoteFile;
  /** Bytes of the whole file. */
  readonly size: number;
  /** Bytes that are already there, and the validator of the answer that they came with. */
  readonly offset: number;
  readonly validator?: string | undefined;
  readonly sink: DownloadSink;
  readonly signal: AbortSignal;
  readonly options?: Partial<DownloadOptions> | undefined;
}

const maxRestarts = 2;

/**
 * Gets the bytes from `offset` to the end, in order, in one stream or in parts. What they are is the caller's to check.
 * @returns whether they all came in one answer.
 * @throws TSV_DOWNLOAD, TSV_DIGEST (another size), TSV_CANCELLED; what the sink or the remote file throws
 */
export async function download(request: DownloadRequest): Promise<{ readonly oneAnswer: boolean }> {
  const { from, size, sink, signal } = request;
  const options = { ...downloadDefaults, ...request.options };
  const source: Source = {
    from,
    size,
    options,
    validator: request.validator,
    ranges: undefined,
    answers: 0,
    onAnswer: () => sink.answered({ validator: source.validator, ranges: source.ranges === true }),
  };
  const transfer: Transfer = { source, sink, position: request.offset, parts: true, signal };
  for (let restarts = 0; transfer.position < size; ) {
    try {
      await run(transfer);
    } catch (error) {
      if (signal.aborted) throw new TsvError('TSV_CANCELLED', 'interrupted', { exitCode: 130 });
      if (error instanceof NoRanges) {
        transfer.parts = false;
      } else if (error instanceof FileChanged && restarts < maxRestarts) {
        restarts += 1;
        await sink.restart();
        transfer.position = 0;
        transfer.parts = false; // servers behind one name that disagree: one of them then gives all
        source.validator = undefined;
        source.answers = 0;
      } else {
        throw failed(error, transfer);
      }
    }
  }
  return { oneAnswer: source.answers <= 1 };
}

interface Transfer {
  readonly source: Source;
  readonly sink: DownloadSink;
  /** Bytes that the sink has. */
  position: number;
  /** Whether to ask for parts at all. */
  parts: boolean;
  readonly signal: AbortSignal;
}

/** From `position` to the end. The first part's reader is written out while the others read ahead. */
async function run(transfer: Transfer): Promise<void> {
  const { source, sink } = transfer;
  const { size, options } = source;
  const controller = new AbortController();
  const stop = () => controller.abort(transfer.signal.reason);
  if (transfer.signal.aborted) stop();
  transfer.signal.addEventListener('abort', stop, { once: true });
  const inParts = transfer.parts && size - transfer.position > options.parallelFromBytes;
  const running: Prefetch[] = [];
  let next = transfer.position;
  const begin = () => {
    const first = running.length === 0 && next === transfer.position;
    const start = next;
    next = inParts ? Math.min(size, start + options.partBytes) : size;
    const alone = () => {
      if (!first || running.length > 1) return false;
      next = size; // nothing is left for others
      return true;
    };
    running.push(
      new Prefetch(readPart(source, { start, end: next, alone, signal: controller.signal }), options.partBytes),
    );
  };
  try {
    begin();
    for (let head = running[0]; head !== undefined; head = running[0]) {
      for (let chunks = await head.take(); chunks !== undefined; chunks = await head.take()) {
        // Only a server that has answered with a range is asked for more of them.
        while (source.ranges === true && next < size && running.length < options.connections) begin();
        for (const chunk of chunks) {
          await sink.write(chunk);
          transfer.position += chunk.length;
        }
      }
      running.shift();
      if (running.length === 0 && next < size) begin();
    }
  } finally {
    transfer.signal.removeEventListener('abort', stop);
    controller.abort(new RemoteError('the download is over', { retry: false }));
    await Promise.all(running.map((part) => part.stop()));
  }
}

function failed(error: unknown, { source, position }: Transfer): unknown {
  const { from, size } = source;
  const changed = error instanceof FileChanged;
  if (!(error instanceof RemoteError) && !changed) return error;
  return new TsvError('TSV_DOWNLOAD', `${from.name} could not be downloaded`, {
    details: [
      changed ? 'it changes at its source while it is read' : error.message,
      `${position} of ${size} bytes had come`,
    ],
    hint:
      position > 0 && source.ranges === true
        ? 'the same command goes on from there'
        : 'see that the server can be reached, then run the command again',
    cause: error,
  });
}
