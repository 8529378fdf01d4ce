import { mkdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { TsvError } from '../../model/errors.ts';
import type { Digest } from '../../model/image.ts';
import type { Holder, UserMap } from '../../sys/userns.ts';
import { defaultLimits, type UnpackLimits } from './limits.ts';
import type { Begin } from './protocol.ts';
import { UnpackWorker } from './worker.ts';

export interface UnpackerOptions {
  readonly map: UserMap;
  /** `layersFolder(store, map)`; made if it is not there. */
  readonly folder: string;
  /** The built program: `dist/parts/unpack.js`. */
  readonly program: string;
  /** Whatever waits rejects with TSV_CANCELLED; `close` is still to be called. */
  readonly signal: AbortSignal;
  readonly limits?: Partial<UnpackLimits>;
}

export interface LayerBlob {
  readonly diffId: Digest;
  readonly compression: 'none' | 'gzip' | 'zstd';
}

export interface UnpackedLayer {
  /** Of all its files together. */
  readonly bytes: number;
  readonly entries: number;
  /** What was left out of the layer and why, for people: `dev/null: a device node`. */
  readonly skipped: readonly string[];
}

/** One layer that is being unpacked. Either `finish` or `abandon` ends it. */
export interface LayerSink {
  /**
   * The next bytes of the blob, as they came. Resolves when more may come.
   * @throws TSV_IMAGE (not an archive, or one that is refused), TSV_STORE (a full disk), TSV_HOST_MISSING, TSV_CANCELLED
   */
  write(chunk: Uint8Array): Promise<void>;
  /** All bytes were given and were right: compares the diff id and publishes. @throws as `write`; TSV_DIGEST */
  finish(): Promise<UnpackedLayer>;
  /** Leaves nothing. Also after an error, which has left nothing already. */
  abandon(): Promise<void>;
}

/**
 * setpriv(1). However this process ends, the other ends too. It reads what strangers made: of root's capabilities it
 * has those that giving files their owners, modes and attributes takes.
 */
const confine = [
  ...['setpriv', '--pdeathsig', 'KILL', '--no-new-privs', '--inh-caps', '-all'],
  ...['--bounding-set', '-all,+chown,+dac_override,+fowner,+fsetid,+setfcap', '--'],
];

const cancelled = (): TsvError => new TsvError('TSV_CANCELLED', 'interrupted', { exitCode: 130 });

/**
 * Processes that unpack layers, in the sandbox's ids; at most as many as CPUs. A layer is locked while it is made:
 * whoever has a sink feeds it without waiting for another layer.
 */
export class Unpacker {
  private readonly options: UnpackerOptions;
  /** Keeps the user namespace that processes enter; none for root. */
  private readonly holder: Holder | undefined;
  private readonly prefix: readonly string[];
  /** All that have not ended. */
  private readonly workers = new Set<UnpackWorker>();
  private readonly idle: UnpackWorker[] = [];
  private readonly queue: ((worker: UnpackWorker | undefined) => void)[] = [];
  private readonly onAbort = (): void => this.cancel();
  private closed = false;

  /**
   * @throws TSV_SANDBOX, TSV_HOST_MISSING: no user namespace for the ids of `map`; TSV_STORE: the folder cannot be made
   */
  static async open(options: UnpackerOptions): Promise<Unpacker> {
    const { map, folder } = options;
    try {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
    } catch (cause) {
      throw new TsvError('TSV_STORE', `the folder ${folder} could not be made`, {
        details: [cause instanceof Error ? cause.message : String(cause)],
        cause,
      });
    }
    const { enterPrefix, startHolder } = await import('../../sys/userns.ts');
    // Root may give files any owner, and its store is where the mapped ids cannot go.
    const holder = map.rooted ? undefined : await startHolder(map, { namespaces: [], label: 'tsv-unpack' });
    return new Unpacker(options, holder, holder === undefined ? [] : enterPrefix(holder.process.pid, ['user']));
  }

  private constructor(options: UnpackerOptions, holder: Holder | undefined, prefix: readonly string[]) {
    this.options = options;
    this.holder = holder;
    this.prefix = prefix;
    options.signal.addEventListener('abort', this.onAbort, { once: true });
  }

  /**
   * Begins a layer. Waits for a free process, and for another process that makes the same layer.
   * undefined: it is there already, or was made meanwhile.
   * @throws TSV_STORE, TSV_CANCELLED
   */
  async layer(layer: LayerBlob): Promise<LayerSink | undefined> {
    const worker = await this.take();
    const { map, folder } = this.options;
    const begin: Begin = { ...layer, map, folder, limits: { ...defaultLimits, ...this.options.limits } };
    try {
      const answer = await worker.ask('begin', begin);
      if ('begun' in answer) return this.sink(worker);
      this.give(worker);
      return undefined;
    } catch (error) {
      this.give(worker);
      throw error;
    }
  }

  /** Ends the processes; layers that are not finished leave nothing. */
  async close(): Promise<void> {
    this.closed = true;
    this.options.signal.removeEventListener('abort', this.onAbort);
    for (const next of this.queue.splice(0)) next(undefined);
    const workers = [...this.workers];
    for (const worker of workers) worker.end();
    await Promise.all(workers.map(({ ended }) => ended));
    this.holder?.release();
  }

  private sink(worker: UnpackWorker): LayerSink {
    let failure: unknown;
    let over = false;
    const step = async <T>(work: () => Promise<T>): Promise<T> => {
      if (failure !== undefined) throw failure;
      if (over) throw new TsvError('TSV_INTERNAL', 'a layer was given more after its end');
      try {
        return await work();
      } catch (error) {
        failure = error;
        leave();
        throw error;
      }
    };
    const leave = (): void => {
      over = true;
      this.give(worker);
    };
    return {
      write: (chunk) => step(() => worker.send(chunk)),
      finish: () =>
        step(async () => {
          const answer = await worker.ask('finish');
          if (!('done' in answer)) throw new TsvError('TSV_INTERNAL', 'an unexpected answer of the unpacker');
          leave();
          return answer.done;
        }),
      abandon: async () => {
        if (over) return;
        over = true;
        try {
          await worker.ask('abandon');
        } catch {
          // It has failed, or has ended: then nothing is left, or the next one for this layer removes it.
        }
        leave();
      },
    };
  }

  /** A process that does nothing now: an old one, a new one, or the next that becomes free. */
  private async take(): Promise<UnpackWorker> {
    if (this.closed || this.options.signal.aborted) throw cancelled();
    const idle = this.idle.pop();
    if (idle !== undefined) return idle;
    const usable = [...this.workers].filter(({ isUsable }) => isUsable).length;
    if (usable < availableParallelism()) return this.start();
    const worker = await new Promise<UnpackWorker | undefined>((resolve) => this.queue.push(resolve));
    if (worker === undefined) throw cancelled();
    return worker;
  }

  private start(): UnpackWorker {
    const worker = new UnpackWorker([...this.prefix, ...confine, process.execPath, this.options.program]);
    this.workers.add(worker);
    void worker.ended.then(() => this.workers.delete(worker));
    return worker;
  }

  private give(worker: UnpackWorker): void {
    if (this.closed || this.options.signal.aborted) return;
    const next = this.queue.shift();
    if (next !== undefined) next(worker.isUsable ? worker : this.start());
    else if (worker.isUsable) this.idle.push(worker);
  }

  private cancel(): void {
    for (const worker of this.workers) {
      worker.end();
      worker.fail(cancelled());
    }
    for (const next of this.queue.splice(0)) next(undefined);
  }
}
