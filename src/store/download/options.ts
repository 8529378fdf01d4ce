/** How patient a download is, and how many connections it takes. */
export interface DownloadOptions {
  /** Failures in a row with less than `progressBytes` between them, after which it is given up. */
  readonly attempts: number;
  readonly progressBytes: number;
  /** The pause after the first failure; it doubles with each, up to `maxBackoffMs`, and half of it is chance. */
  readonly backoffMs: number;
  readonly maxBackoffMs: number;
  /** A server that asks for a longer pause than this (Retry-After) is told to people instead. */
  readonly maxRetryAfterMs: number;
  /** No byte for this long: the connection is given up. */
  readonly stallMs: number;
  /** Slower than this over `rateWindowMs`: the same. */
  readonly minBytesPerSecond: number;
  readonly rateWindowMs: number;
  /** A file of which more than this is missing comes in parts of `partBytes`, `connections` at a time. */
  readonly parallelFromBytes: number;
  readonly partBytes: number;
  readonly connections: number;
  /** Resolves after a pause. */
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
}

const MiB = 1024 * 1024;

export const downloadDefaults: DownloadOptions = {
  attempts: 6,
  progressBytes: MiB,
  backoffMs: 500,
  maxBackoffMs: 20_000,
  maxRetryAfterMs: 120_000,
  stallMs: 30_000,
  minBytesPerSecond: 1024,
  rateWindowMs: 60_000,
  // Layers come several at a time as it is; at most 4 parts of 8 MiB of each wait in memory.
  parallelFromBytes: 64 * MiB,
  partBytes: 8 * MiB,
  connections: 4,
  sleep: pause,
};

/**
 * The pause before the next attempt, in ms; `failures` counts from 1, `chance` is from 0 to 1.
 * Undefined: the server wants more patience than there is.
 */
export function backoff(
  failures: number,
  retryAfterMs: number | undefined,
  options: DownloadOptions,
  chance = Math.random(),
): number | undefined {
  if (retryAfterMs !== undefined && retryAfterMs > options.maxRetryAfterMs) return undefined;
  const full = Math.min(options.maxBackoffMs, options.backoffMs * 2 ** (failures - 1));
  return Math.max(full / 2 + (full / 2) * chance, retryAfterMs ?? 0);
}

/** A timer that ends early, without an error, when the signal fires. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done, { once: true });
  });
}
