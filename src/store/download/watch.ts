import type { DownloadOptions } from './options.ts';
import { RemoteError } from './remote.ts';

/**
 * Gives up one attempt that stalls, or that is so slow that it is meant to hold us. Only the time in which we wait for
 * the other side counts: a disk or an unpacker that is slow is no reason to break a connection.
 */
export class Watch {
  /** Fires with a RemoteError, or with the outer signal. */
  readonly signal: AbortSignal;
  private readonly controller = new AbortController();
  private readonly outer: AbortSignal;
  private readonly stop = () => this.controller.abort(this.outer.reason);
  private readonly name: string;
  private readonly options: DownloadOptions;
  private timer: NodeJS.Timeout | undefined;
  private waitedMs = 0;
  private bytes = 0;

  constructor(name: string, options: DownloadOptions, outer: AbortSignal) {
    this.name = name;
    this.options = options;
    this.outer = outer;
    this.signal = this.controller.signal;
    if (outer.aborted) this.stop();
    else outer.addEventListener('abort', this.stop, { once: true });
  }

  /** Waits for the other side. */
  async wait<T>(work: () => Promise<T>): Promise<T> {
    const { stallMs, rateWindowMs } = this.options;
    const before = performance.now();
    // One timer for all waits of an attempt: most are shorter than it takes to make one.
    if (this.timer === undefined) this.timer = setTimeout(() => this.stalled(), stallMs);
    else this.timer.refresh();
    this.waiting = true;
    try {
      return await work();
    } finally {
      this.waiting = false;
      this.waitedMs += performance.now() - before;
      if (this.waitedMs >= rateWindowMs) this.judge();
    }
  }

  arrived(bytes: number): void {
    this.bytes += bytes;
  }

  /** The attempt is over: whatever is still open of it ends. */
  end(): void {
    clearTimeout(this.timer);
    this.outer.removeEventListener('abort', this.stop);
    this.controller.abort(new RemoteError(`${this.name}: this attempt is over`, { retry: true }));
  }

  private waiting = false;

  private stalled(): void {
    if (!this.waiting) return;
    const message = `${this.name}: no byte came for ${seconds(this.options.stallMs)}`;
    this.controller.abort(new RemoteError(message, { retry: true }));
  }

  /** Of each window on its own, so that a good start does not buy an endless end. */
  private judge(): void {
    const perSecond = this.bytes / (this.waitedMs / 1000);
    if (perSecond < this.options.minBytesPerSecond) {
      const message = `${this.name}: only ${this.bytes} bytes came in ${seconds(this.waitedMs)}`;
      this.controller.abort(new RemoteError(message, { retry: true }));
    }
    this.waitedMs = 0;
    this.bytes = 0;
  }
}

const seconds = (ms: number): string => `${Number((ms / 1000).toPrecision(2))} s`;
