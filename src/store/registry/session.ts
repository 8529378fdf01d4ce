import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { TsvError } from '../../model/errors.ts';
import type { HttpClient, HttpResponse } from '../download/http.ts';
import { RemoteError } from '../download/remote.ts';
import { type Access, Authorizer } from './auth.ts';
import { parseChallenges } from './challenge.ts';
import { type RegistriesConfig, registriesFile } from './config.ts';
import type { CredentialSource } from './credentials.ts';
import { type Endpoint, endpointsOf } from './endpoints.ts';
import { isCertificateError, unreachable } from './failures.ts';

export interface SessionOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly config: RegistriesConfig;
  readonly credentials: CredentialSource;
  readonly http: HttpClient;
  readonly signal: AbortSignal;
  /** For people: which mirror did not help, and why. */
  readonly notice: (text: string) => void;
  /** How often a question is asked in all when the network or the registry stumbles, and the first pause. */
  readonly attempts?: number;
  readonly backoffMs?: number;
  readonly now?: () => number;
}

export interface RegistryRequest {
  readonly method?: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH';
  /** From `/v2/` on, or a whole URL that the registry gave for an upload. */
  readonly target: string | URL;
  readonly access: Access;
  readonly headers?: Readonly<Record<string, string>>;
  /** Called for each time that it is sent. */
  readonly body?: () => string | Uint8Array | Readable;
  readonly signal: AbortSignal;
}

/** Longest pause that a registry is granted by its Retry-After before the answer is an error. */
const pauseLimitMs = 10_000;
const passing = new Set(['ECONNRESET', 'ETIMEDOUT', 'EPIPE', 'EAI_AGAIN', 'UND_ERR_SOCKET', 'UND_ERR_HEADERS_TIMEOUT']);

/**
 * Requests to registries with all that belongs to each: which address answers, proof of who one is, another try, and
 * mirrors before the registry itself.
 */
export class Session {
  readonly options: SessionOptions;
  /** The address of an endpoint that has answered, by the endpoint's name. */
  private readonly origins = new Map<string, string>();
  private readonly authorizers = new Map<string, Authorizer>();
  /** Mirrors that did not answer, or not with what was asked. */
  private readonly down = new Set<string>();

  constructor(options: SessionOptions) {
    this.options = options;
  }

  /**
   * Does `work` at the first endpoint that can: mirrors in their order, then the registry. That a mirror could not is
   * said, whatever the reason was.
   */
  async anywhere<T>(registry: string, work: (endpoint: Endpoint) => Promise<T>): Promise<T> {
    const endpoints = endpointsOf(registry, this.options.config).filter(
      (endpoint) => !this.down.has(placeOf(endpoint)),
    );
    for (const endpoint of endpoints) {
      try {
        return await work(endpoint);
      } catch (error) {
        if (!endpoint.isMirror || (error instanceof TsvError && error.code === 'TSV_CANCELLED')) throw error;
        this.giveUp(endpoint, registry, error);
      }
    }
    throw new TsvError('TSV_INTERNAL', `${registry} has no endpoint`);
  }

  /** Says that a mirror did not help. One that failed is not asked again; one that merely lacks something is. */
  giveUp(endpoint: Endpoint, registry: string, error: unknown): void {
    const isLacking = error instanceof TsvError && error.code === 'TSV_IMAGE_UNKNOWN';
    if (this.down.has(placeOf(endpoint))) return; // said already
    if (!isLacking) this.down.add(placeOf(endpoint));
    const why = error instanceof Error ? error.message : String(error);
    const details = error instanceof TsvError && error.details[0] !== undefined ? ` (${error.details[0]})` : '';
    const all = endpointsOf(registry, this.options.config);
    const after = all.slice(all.findIndex((other) => placeOf(other) === placeOf(endpoint)) + 1);
    const next = after.find((other) => !this.down.has(placeOf(other)))?.name ?? registry;
    this.options.notice(`mirror ${endpoint.name}: ${why}${details}; asking ${next}`);
  }

  /** {@link once}, again while the network or the registry stumbles. For what may be asked twice. */
  async ask(endpoint: Endpoint, request: RegistryRequest): Promise<HttpResponse> {
    const { backoffMs = 500 } = this.options;
    const attempts = endpoint.isMirror ? 1 : (this.options.attempts ?? 3); // there is another place to ask
    for (let attempt = 1; ; attempt += 1) {
      const isLast = attempt >= attempts;
      try {
        const response = await this.once(endpoint, request);
        const pauseMs = pauseOf(response, backoffMs * 2 ** (attempt - 1));
        if (isLast || pauseMs === undefined) return response;
        await response.discard();
        await pause(pauseMs, request.signal);
      } catch (error) {
        if (!(error instanceof RemoteError)) throw error;
        if (isLast || !passing.has(error.errno ?? '')) throw this.unreachable(endpoint, error);
        await this.pause(attempt, error, request.signal);
      }
    }
  }

  /** Waits before another try: what the other side asked for, or twice as long as the last time. */
  async pause(failures: number, { retryAfterMs }: RemoteError, signal: AbortSignal): Promise<void> {
    const backoffMs = (this.options.backoffMs ?? 500) * 2 ** (failures - 1);
    await pause(Math.min(retryAfterMs ?? backoffMs, pauseLimitMs), signal);
  }

  unreachable(endpoint: Endpoint, error: RemoteError): TsvError {
    return unreachable(endpoint, error, registriesFile(this.options.env));
  }

  /**
   * One request, and a second one with proof when the registry asks for it: at first, and when a token has expired in
   * the middle of things. Any other status is an answer.
   * @throws RemoteError when there is no answer; TSV_REGISTRY_LOGIN, TSV_REGISTRY when there can be no proof
   */
  async once(endpoint: Endpoint, request: RegistryRequest): Promise<HttpResponse> {
    const authorizer = this.authorizer(endpoint);
    const sent = authorizer.current(request.access);
    const { response, origin } = await this.send(endpoint, request, sent);
    // Only the registry's own question is answered: where it has redirected to gets no proof of anything.
    if (response.status !== 401 || response.url.origin !== origin) return response;
    const challenges = parseChallenges(response.headers['www-authenticate'] ?? '');
    if (challenges.length === 0) return response;
    await response.discard();
    const authorization = await authorizer.renew(challenges, request.access, sent, origin).catch((error: unknown) => {
      throw error instanceof RemoteError ? this.unreachable(endpoint, error) : error;
    });
    const second = await this.send(endpoint, request, authorization);
    const isRefused = second.response.status === 401 && second.response.url.origin === second.origin;
    if (isRefused && authorization.startsWith('Basic '))
      throw await authorizer.refused(request.access, second.response);
    return second.response; // a token that is not enough is for whoever asked to tell: they know what for
  }

  private async send(
    endpoint: Endpoint,
    { method, target, headers, body, signal }: RegistryRequest,
    authorization: string | undefined,
  ): Promise<{ response: HttpResponse; origin: string }> {
    const { http } = this.options;
    const known = this.origins.get(endpoint.name);
    const origins = known === undefined ? endpoint.origins : [known];
    for (const [index, origin] of origins.entries()) {
      const url = new URL(target, origin);
      const isOwn = url.origin === new URL(origin).origin;
      try {
        const response = await http.request(url, {
          ...(method === undefined ? {} : { method }),
          ...(headers === undefined ? {} : { headers }),
          ...(authorization === undefined || !isOwn ? {} : { authorization }),
          ...(body === undefined ? {} : { body: body() }),
          signal,
        });
        this.origins.set(endpoint.name, origin);
        return { response, origin: new URL(origin).origin };
      } catch (error) {
        // A server that speaks TLS and cannot prove who it is gets no second chance without.
        const isLast = index === origins.length - 1;
        if (isLast || !(error instanceof RemoteError) || isCertificateError(error)) throw error;
      }
    }
    throw new TsvError('TSV_INTERNAL', `${endpoint.name} has no address`);
  }

  private authorizer(endpoint: Endpoint): Authorizer {
    const made = this.authorizers.get(endpoint.name);
    if (made !== undefined) return made;
    const { credentials, http, signal, now } = this.options;
    const authorizer = new Authorizer({ endpoint, credentials, http, signal, ...(now === undefined ? {} : { now }) });
    this.authorizers.set(endpoint.name, authorizer);
    return authorizer;
  }
}

/** A mirror may be several, each below a path. */
const placeOf = ({ name, prefix }: Endpoint): string => `${name}/${prefix}`;

/** How long to wait before the same question; undefined: this answer is the answer. */
function pauseOf({ status, headers }: HttpResponse, backoffMs: number): number | undefined {
  const after = Number(headers['retry-after']) * 1000;
  if (status === 429) return after <= pauseLimitMs ? after : undefined;
  if (status !== 502 && status !== 503 && status !== 504) return undefined;
  return Number.isNaN(after) ? backoffMs : after <= pauseLimitMs ? after : undefined;
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, { signal });
  } catch {
    throw new TsvError('TSV_CANCELLED', 'interrupted', { exitCode: 130 });
  }
}
