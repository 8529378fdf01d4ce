import { isIP } from 'node:net';
import type { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import { TsvError } from '../../model/errors.ts';
import { networkError } from './network-error.ts';
import { RemoteError } from './remote.ts';
import { type TlsOptions, type Trust, tlsOptions } from './trust.ts';

export interface HttpClientOptions {
  /** Proxies: HTTP_PROXY, HTTPS_PROXY, NO_PROXY, in lower or upper case. This host itself is reached without one. */
  readonly env: NodeJS.ProcessEnv;
  readonly connectTimeoutMs?: number;
  /** From the request to the head of the answer; and between two pieces of a body. */
  readonly answerTimeoutMs?: number;
  /** Of GET and HEAD. */
  readonly maxRedirects?: number;
  /** For hosts (with their port, as in a URL) that have to prove something else than the usual. */
  readonly trust?: (host: string) => Trust | undefined;
}

export interface HttpRequest {
  readonly method?: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly headers?: Readonly<Record<string, string>>;
  /** The header of this name: it goes to the scheme, host and port of the given URL and, on redirects, nowhere else. */
  readonly authorization?: string;
  readonly body?: string | Uint8Array | Readable;
  readonly signal: AbortSignal;
}

export interface HttpResponse {
  /** After redirects. */
  readonly url: URL;
  readonly status: number;
  /** By lower-case name; several of one name are joined by `, `. */
  readonly headers: Readonly<Record<string, string | undefined>>;
  /** To be read to its end or returned from; else {@link discard}. @throws RemoteError, or the signal's own reason */
  readonly body: AsyncIterable<Uint8Array>;
  /** The whole body. @throws RemoteError when it is longer than `maxBytes` or takes more than a minute. */
  bytes(maxBytes: number): Promise<Buffer>;
  /** Lets the body go, so that the connection is free. Never fails. */
  discard(): Promise<void>;
}

const redirects = new Set([301, 302, 303, 307, 308]);
/** What speaks for a user; goes to no other origin. */
const secret = new Set(['authorization', 'cookie', 'proxy-authorization']);
const documentTimeoutMs = 60_000;

/** HTTP with the environment's proxies, time limits, and redirects that carry no credentials away. */
export class HttpClient {
  private readonly options: HttpClientOptions;
  /** By what the other side has to prove: nothing for plain http, the usual, or by host. */
  private readonly dispatchers = new Map<string, Promise<Dispatchers>>();

  constructor(options: HttpClientOptions) {
    this.options = options;
  }

  /**
   * Any status is an answer; GET and HEAD follow redirects, not from https to http.
   * @throws RemoteError (the network, TLS, a redirect that is not followed); the signal's reason, or TSV_CANCELLED
   */
  async request(target: string | URL, request: HttpRequest): Promise<HttpResponse> {
    const { url: first, authorization = request.authorization } = takeCredentials(target);
    const method = request.method ?? 'GET';
    const limit = this.options.maxRedirects ?? 8;
    let url = first;
    let headers: Record<string, string> = {
      'user-agent': 'tsv',
      ...request.headers,
      ...(authorization === undefined ? {} : { authorization }),
    };
    for (let count = 0; ; count++) {
      const response = await this.send(url, method, headers, request);
      const { location } = response.headers;
      if (!redirects.has(response.status) || location === undefined || (method !== 'GET' && method !== 'HEAD')) {
        return response;
      }
      await response.discard();
      if (count === limit) {
        throw new RemoteError(`${first.host} answered with more than ${limit} redirects`, { retry: false });
      }
      const next = redirectTarget(location, url);
      // Once away, never again: whoever redirects back would choose what the credentials are used for.
      if (next.origin !== url.origin) headers = withoutSecrets(headers);
      url = next;
    }
  }

  /** Ends every connection. */
  async close(): Promise<void> {
    const all = await Promise.allSettled(this.dispatchers.values());
    const opened = all.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    await Promise.all(opened.flatMap(({ direct, proxied }) => [direct.destroy(), proxied.destroy()]));
  }

  private async send(
    url: URL,
    method: NonNullable<HttpRequest['method']>,
    headers: Record<string, string>,
    { body, signal }: HttpRequest,
  ): Promise<HttpResponse> {
    if (signal.aborted) throw cancelled(signal);
    const { direct, proxied } = await this.dispatchersFor(url);
    try {
      const answer = await (isThisHost(url) ? direct : proxied).request({
        origin: url.origin,
        path: `${url.pathname}${url.search}`,
        method,
        headers,
        body: body ?? null,
        signal,
        highWaterMark: 1024 * 1024,
      });
      return response(url, answer, signal);
    } catch (cause) {
      throw signal.aborted ? cancelled(signal) : networkError(cause, url.host);
    }
  }

  private dispatchersFor(url: URL): Promise<Dispatchers> {
    const { env, trust } = this.options;
    const isTls = url.protocol === 'https:';
    const special = isTls ? trust?.(url.host) : undefined;
    const key = special === undefined ? url.protocol : url.host;
    let opened = this.dispatchers.get(key);
    if (opened === undefined) {
      opened = openDispatchers(this.options, isTls ? tlsOptions(env, special) : undefined);
      this.dispatchers.set(key, opened);
    }
    return opened;
  }
}

interface Dispatchers {
  readonly direct: Dispatcher;
  readonly proxied: Dispatcher;
}

async function openDispatchers(
  { env, connectTimeoutMs, answerTimeoutMs = 60_000 }: HttpClientOptions,
  tls: TlsOptions | undefined,
): Promise<Dispatchers> {
  // A bundle of CommonJS has nothing but a default.
  const { Agent, EnvHttpProxyAgent } = (await import('undici')).default;
  const options = {
    connectTimeout: connectTimeoutMs ?? 20_000,
    headersTimeout: answerTimeoutMs,
    bodyTimeout: answerTimeoutMs, // does not run while nobody reads
    ...(tls === undefined ? {} : { connect: tls, requestTls: tls }),
  };
  const httpProxy = proxy(env, 'http_proxy') ?? '';
  const proxied = new EnvHttpProxyAgent({
    ...options,
    httpProxy,
    httpsProxy: proxy(env, 'https_proxy') ?? '',
    noProxy: env.no_proxy ?? env.NO_PROXY ?? '',
    proxyTunnel: false, // for plain http; many proxies allow CONNECT to port 443 only
  });
  return { direct: new Agent(options), proxied };
}

/** `HOST:PORT` is taken as `http://HOST:PORT`, as curl does. @throws TSV_DOWNLOAD */
function proxy(env: NodeJS.ProcessEnv, name: string): string | undefined {
  const value = env[name] ?? env[name.toUpperCase()];
  if (value === undefined || value === '') return undefined;
  const url = value.includes('://') ? value : `http://${value}`;
  if (URL.canParse(url)) return url;
  throw new TsvError('TSV_DOWNLOAD', `the environment's ${name} is no address of a proxy`, {
    hint: `set it like ${name}=http://proxy.example:3128, or unset it`,
  });
}

const isThisHost = ({ hostname }: URL): boolean =>
  hostname === 'localhost' || hostname === '[::1]' || (isIP(hostname) === 4 && hostname.startsWith('127.'));

/** `https://NAME:PASSWORD@host/`: the credentials become a header, so that no message shows them. */
function takeCredentials(target: string | URL): { readonly url: URL; readonly authorization?: string } {
  if (!URL.canParse(String(target))) {
    throw new RemoteError(`${JSON.stringify(String(target))} is not a URL`, { retry: false });
  }
  const url = new URL(target);
  requireHttp(url);
  const { username, password } = url;
  url.username = url.password = '';
  if (username === '' && password === '') return { url };
  const plain = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return { url, authorization: `Basic ${Buffer.from(plain).toString('base64')}` };
}

function redirectTarget(location: string, from: URL): URL {
  if (!URL.canParse(location, from.href)) {
    throw new RemoteError(`${from.host} redirects to something that is not a URL`, { retry: false });
  }
  const url = new URL(location, from);
  requireHttp(url);
  if (from.protocol === 'https:' && url.protocol === 'http:') {
    throw new RemoteError(`${from.host} redirects from https to plain http at ${url.host}`, { retry: false });
  }
  url.username = url.password = '';
  return url;
}

function requireHttp({ protocol }: URL): void {
  if (protocol === 'http:' || protocol === 'https:') return;
  throw new RemoteError(`${protocol}// is neither http nor https`, { retry: false });
}

const withoutSecrets = (headers: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(headers).filter(([name]) => !secret.has(name.toLowerCase())));

function response(url: URL, answer: Dispatcher.ResponseData, signal: AbortSignal): HttpResponse {
  const body = {
    async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
      try {
        for await (const chunk of answer.body) yield chunk as Uint8Array;
      } catch (cause) {
        throw signal.aborted ? cancelled(signal) : networkError(cause, url.host);
      }
    },
  };
  return {
    url,
    status: answer.statusCode,
    headers: Object.fromEntries(
      Object.entries(answer.headers).map(([name, value]) => [name, Array.isArray(value) ? value.join(', ') : value]),
    ),
    body,
    bytes: (maxBytes) => whole(body, maxBytes, url.host, () => answer.body.destroy()),
    discard: async () => {
      await answer.body.dump({ limit: 64 * 1024, signal: AbortSignal.timeout(5000) }).catch(() => {});
    },
  };
}

async function whole(
  body: AsyncIterable<Uint8Array>,
  maxBytes: number,
  host: string,
  stop: () => void,
): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    stop();
  }, documentTimeoutMs);
  try {
    for await (const chunk of body) {
      length += chunk.length;
      if (length > maxBytes) {
        throw new RemoteError(`the answer of ${host} is longer than ${maxBytes} bytes`, { retry: false });
      }
      chunks.push(chunk);
    }
  } catch (cause) {
    if (!late) throw cause;
    throw new RemoteError(`${host} took more than ${documentTimeoutMs / 1000} s for its answer`, {
      retry: true,
      cause,
    });
  } finally {
    clearTimeout(timer);
  }
  return Buffer.concat(chunks, length);
}

/** Who aborts may say why; otherwise it was the user. */
function cancelled({ reason }: AbortSignal): Error {
  if (reason instanceof TsvError || reason instanceof RemoteError) return reason;
  return new TsvError('TSV_CANCELLED', 'interrupted', { exitCode: 130 });
}
