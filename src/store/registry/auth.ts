import { TsvError } from '../../model/errors.ts';
import type { HttpClient, HttpResponse } from '../download/http.ts';
import type { Challenge } from './challenge.ts';
import type { CredentialSource, Credentials } from './credentials.ts';
import { type Endpoint, isLoopback } from './endpoints.ts';
import { badAnswer, complaintLines, complaintsOf, denied } from './failures.ts';

/** Sent as who asks for a token (OAuth 2: client_id). */
const clientId = 'ts-vm';
const tokenAnswerLimitBytes = 1 << 20;
/** Of a token that does not say it (distribution's token specification: expires_in). */
const defaultLifeSeconds = 60;

export interface AuthorizerOptions {
  readonly endpoint: Endpoint;
  readonly credentials: CredentialSource;
  readonly http: HttpClient;
  readonly signal: AbortSignal;
  /** Milliseconds of a clock that only goes on. */
  readonly now?: () => number;
}

/** What is wanted, as a token names it. */
export interface Access {
  /** `repository:library/nginx:pull`; none for a login. */
  readonly scopes: readonly string[];
  /** Whose credentials are looked for. */
  readonly repository: string;
}

interface Granted {
  readonly authorization: string;
  readonly freshUntilMs: number;
}

/**
 * Proofs for one server: finds out how it wants them, keeps tokens by what they are good for, and gets a new one when
 * one is refused. Many may ask at the same time: one request for a token serves all of them.
 */
export class Authorizer {
  private readonly granted = new Map<string, Granted>();
  private readonly asking = new Map<string, Promise<string>>();
  private readonly options: AuthorizerOptions;
  private readonly now: () => number;

  constructor(options: AuthorizerOptions) {
    this.options = options;
    this.now = options.now ?? (() => performance.now());
  }

  /** What to send along, if that is known already. */
  current({ scopes }: Access): string | undefined {
    const granted = this.granted.get(scopes.join(' '));
    return granted !== undefined && this.now() < granted.freshUntilMs ? granted.authorization : undefined;
  }

  /**
   * The answer to a 401. `refused`: what was sent with that request, if anything; `origin`: where the request went.
   * @throws TSV_REGISTRY_LOGIN, TSV_REGISTRY
   */
  renew(
    challenges: readonly Challenge[],
    access: Access,
    refused: string | undefined,
    origin: string,
  ): Promise<string> {
    const key = access.scopes.join(' ');
    const current = this.current(access);
    if (current !== undefined && current !== refused) return Promise.resolve(current); // another request was faster
    let asking = this.asking.get(key);
    if (asking === undefined) {
      asking = this.prove(challenges, access, refused, origin)
        .then((granted) => {
          this.granted.set(key, granted);
          return granted.authorization;
        })
        .finally(() => this.asking.delete(key));
      this.asking.set(key, asking);
    }
    return asking;
  }

  /** Why a name and a password are of no use: they are not the right ones. */
  async refused({ repository }: Access, response: HttpResponse): Promise<TsvError> {
    const { endpoint, credentials } = this.options;
    const details = [
      `HTTP ${response.status} from ${response.url.host}`,
      ...complaintLines(await complaintsOf(response)),
    ];
    const who = await credentials.find(endpoint.name, repository);
    return wrongCredentials(endpoint, who, details);
  }

  private async prove(
    challenges: readonly Challenge[],
    access: Access,
    refused: string | undefined,
    origin: string,
  ): Promise<Granted> {
    const { endpoint, credentials } = this.options;
    const bearer = challenges.find(({ scheme }) => scheme === 'bearer');
    const basic = challenges.find(({ scheme }) => scheme === 'basic');
    if (bearer === undefined && basic === undefined) {
      const offered = challenges.map(({ scheme }) => scheme).join(', ');
      throw new TsvError('TSV_REGISTRY', `${endpoint.name} wants a kind of login that is not known here`, {
        details: [offered === '' ? 'it does not say which' : `it takes ${offered}; known are bearer and basic`],
        hint: `check that ${endpoint.name} is a registry: curl -i ${origin}/v2/`,
      });
    }
    const who = await credentials.find(endpoint.name, access.repository);
    if (who?.kind === 'bearer') {
      const authorization = `Bearer ${headerText(endpoint, who.token)}`;
      if (authorization === refused) throw wrongCredentials(endpoint, who, []);
      return { authorization, freshUntilMs: Number.POSITIVE_INFINITY };
    }
    if (bearer !== undefined) return await this.token(bearer, access, who, origin);
    if (who?.kind !== 'password')
      throw denied(endpoint, whatIs(access), { details: ['HTTP 401'], hadCredentials: false });
    const authorization = basicHeader(who.username, who.password);
    if (authorization === refused) throw wrongCredentials(endpoint, who, []);
    return { authorization, freshUntilMs: Number.POSITIVE_INFINITY };
  }

  /** From the token server that the challenge names (distribution's "Token Authentication", "OAuth 2"). */
  private async token(
    { parameters }: Challenge,
    access: Access,
    who: Exclude<Credentials, { kind: 'bearer' }> | undefined,
    origin: string,
  ): Promise<Granted> {
    const { endpoint, http, signal } = this.options;
    const realm = checkedRealm(parameters.realm, endpoint, origin);
    const wanted = new URLSearchParams({ client_id: clientId });
    if (parameters.service !== undefined) wanted.set('service', parameters.service);
    const scopes = new Set([...access.scopes, ...(parameters.scope?.split(' ').filter((scope) => scope !== '') ?? [])]);

    const response =
      who?.kind === 'identity'
        ? await http.request(realm, {
            method: 'POST',
            headers: { 'content-type': 'application/x-www-form-urlencoded', accept: 'application/json' },
            body: refreshForm(who.token, wanted, scopes),
            signal,
          })
        : await http.request(withQuery(realm, wanted, scopes, who), {
            headers: { accept: 'application/json' },
            ...(who === undefined ? {} : { authorization: basicHeader(who.username, who.password) }),
            signal,
          });
    if (response.status === 401 || response.status === 403 || (response.status === 400 && who?.kind === 'identity')) {
      const details = [`HTTP ${response.status} from ${realm.host}`, ...complaintLines(await complaintsOf(response))];
      if (who !== undefined) throw wrongCredentials(endpoint, who, details);
      throw denied(endpoint, whatIs(access), { details, hadCredentials: false });
    }
    if (response.status !== 200) throw await badAnswer(endpoint, response, `a token for ${whatIs(access)}`);
    const { token, lifeSeconds } = parseToken(await response.bytes(tokenAnswerLimitBytes), endpoint);
    const margin = Math.min(10, lifeSeconds / 10);
    return { authorization: `Bearer ${token}`, freshUntilMs: this.now() + (lifeSeconds - margin) * 1000 };
  }
}

const whatIs = ({ repository }: Access): string => (repository === '' ? 'it' : repository);

/**
 * Where a token comes from is said by the registry, and credentials go there: over TLS, unless the registry itself is
 * asked without and the token server is as near, or as expressly insecure.
 */
function checkedRealm(text: string | undefined, endpoint: Endpoint, origin: string): URL {
  const refuse = (why: string): TsvError =>
    new TsvError('TSV_REGISTRY', `${endpoint.name} names no token server that may be asked`, {
      details: [why],
      hint: 'no credentials were sent; ask whoever runs the registry',
    });
  const realm = text === undefined ? null : parseUrl(text);
  if (realm === null) throw refuse(text === undefined ? 'its challenge has no realm' : 'the realm is no URL');
  if (realm.username !== '' || realm.password !== '') throw refuse('the realm has a user or a password in it');
  if (realm.protocol === 'https:') return realm;
  const isPlain =
    realm.protocol === 'http:' && (endpoint.insecure || (origin.startsWith('http:') && isLoopback(realm.host)));
  if (isPlain) return realm;
  throw refuse(`${realm.origin} is not https:`);
}

function parseUrl(text: string): URL | null {
  try {
    return new URL(text);
  } catch {
    return null;
  }
}

function withQuery(
  realm: URL,
  wanted: URLSearchParams,
  scopes: ReadonlySet<string>,
  who: { readonly username: string } | undefined,
): URL {
  const url = new URL(realm);
  for (const [name, value] of wanted) url.searchParams.set(name, value);
  for (const scope of scopes) url.searchParams.append('scope', scope);
  if (who !== undefined) url.searchParams.set('account', who.username);
  return url;
}

/** RFC 6749 section 6; scopes are one text there. */
function refreshForm(token: string, wanted: URLSearchParams, scopes: ReadonlySet<string>): string {
  const form = new URLSearchParams(wanted);
  form.set('grant_type', 'refresh_token');
  form.set('refresh_token', token);
  if (scopes.size > 0) form.set('scope', [...scopes].join(' '));
  return form.toString();
}

/** RFC 7617. */
export const basicHeader = (username: string, password: string): string =>
  `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;

function parseToken(bytes: Buffer, endpoint: Endpoint): { token: string; lifeSeconds: number } {
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch {
    // said below, as for every other answer without a token
  }
  const answer = (value ?? {}) as { token?: unknown; access_token?: unknown; expires_in?: unknown };
  const token = answer.token || answer.access_token;
  const life = answer.expires_in;
  if (typeof token !== 'string')
    throw new TsvError('TSV_REGISTRY', `the token server of ${endpoint.name} gave no token`, {
      hint: 'it may be a proxy or a login page that answers: check the network',
    });
  const lifeSeconds = typeof life === 'number' && life > 0 ? Math.max(life, 1) : defaultLifeSeconds;
  return { token: headerText(endpoint, token), lifeSeconds };
}

/** RFC 6750 section 2.1: nothing else may stand in the header. */
function headerText(endpoint: Endpoint, token: string): string {
  if (/^[\x21-\x7e]+$/.test(token)) return token;
  throw new TsvError('TSV_REGISTRY', `the token for ${endpoint.name} has characters that no token may have`);
}

function wrongCredentials(endpoint: Endpoint, who: Credentials | undefined, details: readonly string[]): TsvError {
  const whose = who?.kind === 'password' ? `the user ${JSON.stringify(who.username)}` : 'a token';
  return new TsvError('TSV_REGISTRY_LOGIN', `${endpoint.name} does not accept your credentials`, {
    details: [...details, `they are of ${whose}`],
    hint: `log in again: tsv image login ${endpoint.name}`,
  });
}
