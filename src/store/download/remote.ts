/** What can be read from an offset: a URL, a registry's blob, a file. */
export interface RemoteFile {
  /** For people: `docker.io/library/nginx layer 3f2a…` */
  readonly name: string;
  /**
   * Opens it. Called again after a failure, and for several parts at once.
   * @throws RemoteError; a TsvError is passed on as it is and ends the download.
   */
  open(request: RemoteRequest): Promise<RemoteBody>;
}

export interface RemoteRequest {
  /** The first byte that is wanted. */
  readonly offset: number;
  /** The byte after the last one; absent: to the end. */
  readonly end?: number;
  /** Of an earlier answer: the range is wanted only if the file is still that one (If-Range, RFC 9110 13.1.5). */
  readonly validator?: string;
  readonly signal: AbortSignal;
}

export interface RemoteBody {
  /** Where the body starts: `offset`, or 0 when the server ignored the range or the file has changed. */
  readonly offset: number;
  /** Bytes of the whole file, where the server says it. */
  readonly total?: number;
  /** A strong ETag or a Last-Modified, as it came. */
  readonly validator?: string;
  /** Whether other parts may be asked for. */
  readonly ranges: boolean;
  /** To be read to its end or returned from (`for await` does both). It throws RemoteError. */
  readonly body: AsyncIterable<Uint8Array>;
}

export interface RemoteErrorOptions {
  /** Whether the same request may succeed later: 429, 5xx, the network. */
  readonly retry: boolean;
  /** What the server asked for (Retry-After). */
  readonly retryAfterMs?: number;
  /** Of HTTP. */
  readonly status?: number;
  /** Of the system or of TLS: ECONNREFUSED, ENOTFOUND, CERT_HAS_EXPIRED, … */
  readonly errno?: string;
  readonly cause?: unknown;
}

/** A remote side that failed, in words for people. Users see it inside of TSV_DOWNLOAD or TSV_REGISTRY. */
export class RemoteError extends Error {
  override readonly name = 'RemoteError';
  readonly retry: boolean;
  readonly retryAfterMs: number | undefined;
  readonly status: number | undefined;
  readonly errno: string | undefined;

  constructor(message: string, options: RemoteErrorOptions) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.retry = options.retry;
    this.retryAfterMs = options.retryAfterMs;
    this.status = options.status;
    this.errno = options.errno;
  }
}
