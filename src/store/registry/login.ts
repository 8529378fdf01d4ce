import { randomBytes } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { TsvError } from '../../model/errors.ts';
import { bestKey, dockerConfigFile, keyOf, malformed, parseObject, readCredentialFile } from './credential-files.ts';
import { eraseFromHelper, type HelperOptions, storeInHelper } from './credential-helper.ts';
import { type CredentialSource, helperOf, userCredentials } from './credentials.ts';
import { originOf } from './endpoints.ts';
import { badAnswer, denied } from './failures.ts';
import { canonicalRegistry, isRegistryHost } from './reference.ts';
import { Session, type SessionOptions } from './session.ts';

export interface LoginRequest {
  /** `ghcr.io`, `localhost:5000`; `docker.io` for Docker Hub. */
  readonly registry: string;
  readonly username: string;
  readonly password: string;
}

export interface LoginResult {
  /** In full, as it is used from now on. */
  readonly registry: string;
  /** Where the credentials are now: a file's path, or a helper's name. */
  readonly savedIn: string;
  /** In a file they are as good as readable. */
  readonly isHelper: boolean;
}

/**
 * Asks the registry whether it takes the credentials, then saves them where Docker and Podman find them, too.
 * @throws TSV_REGISTRY_LOGIN when it does not take them; TSV_REGISTRY, TSV_STORE
 */
export async function login(
  request: LoginRequest,
  options: Omit<SessionOptions, 'credentials'> & { readonly helperTimeoutMs?: number },
): Promise<LoginResult> {
  const registry = checkedRegistry(request.registry);
  const { username, password } = request;
  if (username === '' || password === '' || username.includes(':') || /[\0\r\n]/.test(username + password))
    throw new TsvError('TSV_USAGE', 'a user has a name without a colon, and a password of one line');
  await checkLogin(registry, { find: async () => ({ kind: 'password', username, password }) }, options);

  const path = dockerConfigFile(options.env);
  const file = readCredentialFile(path);
  const helper = file === undefined ? undefined : helperOf(file, registry);
  if (helper !== undefined) {
    await storeInHelper(helper, keyOf(registry), { username, secret: password }, helperOptions(path, options));
    return { registry, savedIn: `docker-credential-${helper}`, isHelper: true };
  }
  changeAuths(path, (auths) => {
    const others = Object.entries(auths).filter(([key]) => bestKey([key], registry) === undefined);
    const auth = Buffer.from(`${username}:${password}`).toString('base64');
    return Object.fromEntries([...others, [keyOf(registry), { auth }]]);
  });
  return { registry, savedIn: path, isHelper: false };
}

export interface LogoutResult {
  readonly registry: string;
  /** Where credentials were taken from; undefined: there were none. */
  readonly removedFrom: string | undefined;
  /** Whether another file still has some, such as Podman's. */
  readonly stillKnown: boolean;
}

/** Takes a registry's credentials out of Docker's file, or of its helper. Gone is success. */
export async function logout(
  name: string,
  options: { readonly env: NodeJS.ProcessEnv; readonly signal: AbortSignal; readonly helperTimeoutMs?: number },
): Promise<LogoutResult> {
  const registry = checkedRegistry(name);
  const path = dockerConfigFile(options.env);
  const file = readCredentialFile(path);
  const helper = file === undefined ? undefined : helperOf(file, registry);
  let removedFrom: string | undefined;
  if (helper !== undefined && (await userCredentials(options).find(registry)) !== undefined) {
    await eraseFromHelper(helper, keyOf(registry), helperOptions(path, options));
    removedFrom = `docker-credential-${helper}`;
  }
  if (file !== undefined && bestKey(Object.keys(file.auths), registry) !== undefined) {
    changeAuths(path, (auths) =>
      Object.fromEntries(Object.entries(auths).filter(([key]) => bestKey([key], registry) === undefined)),
    );
    removedFrom ??= path;
  }
  const stillKnown = (await userCredentials(options).find(registry)) !== undefined;
  return { registry, removedFrom, stillKnown };
}

function checkedRegistry(name: string): string {
  const host = name.replace(/^https?:\/\//, '').replace(/\/(?:v[12]\/?)?$/, '');
  if (isRegistryHost(host)) return canonicalRegistry(host);
  throw new TsvError('TSV_USAGE', `${JSON.stringify(name)} is no registry`, {
    hint: 'give its host, and its port if it has one of its own: tsv image login registry.example.org:5000',
  });
}

const helperOptions = (
  file: string,
  { env, signal, helperTimeoutMs }: { env: NodeJS.ProcessEnv; signal: AbortSignal; helperTimeoutMs?: number },
): HelperOptions => ({ env, signal, file, ...(helperTimeoutMs === undefined ? {} : { timeoutMs: helperTimeoutMs }) });

/** distribution-spec, "Determining Support": `/v2/` is open to those whom the registry knows. */
async function checkLogin(
  registry: string,
  credentials: CredentialSource,
  options: Omit<SessionOptions, 'credentials'>,
): Promise<void> {
  const session = new Session({ ...options, credentials });
  const endpoint = originOf(registry, options.config);
  const access = { scopes: [], repository: '' };
  const response = await session.ask(endpoint, { target: '/v2/', access, signal: options.signal });
  if (response.status === 200) return await response.discard();
  if (response.status === 401)
    throw denied(endpoint, 'it', { details: [`HTTP 401 from ${response.url.host}`], hadCredentials: true });
  throw await badAnswer(endpoint, response, 'a login');
}

/**
 * Changes `auths` of Docker's config.json and nothing else of it: written beside it (0600), then renamed. A symlink
 * stays one.
 */
function changeAuths(
  path: string,
  change: (auths: Readonly<Record<string, unknown>>) => Record<string, unknown>,
): void {
  let target = path;
  let text = '';
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    target = realpathSync(path);
    text = readFileSync(target, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw malformed(path, (cause as Error).message, cause);
  }
  const config = parseObject(text, path);
  const auths = change((config.auths ?? {}) as Readonly<Record<string, unknown>>);
  const temporary = `${target}.${randomBytes(8).toString('hex')}.tmp`;
  try {
    const fd = openSync(temporary, 'wx', 0o600);
    try {
      writeFileSync(fd, `${JSON.stringify({ ...config, auths }, null, '\t')}\n`);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, target);
  } catch (cause) {
    rmSync(temporary, { force: true });
    throw new TsvError('TSV_STORE', `${path} could not be written: ${(cause as Error).message}`, {
      hint: `what was in it is still there; see that ${dirname(target)} can be written and has room`,
      cause,
    });
  }
}
