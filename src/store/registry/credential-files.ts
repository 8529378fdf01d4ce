import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { TsvError } from '../../model/errors.ts';
import { canonicalRegistry, dockerHub } from './reference.ts';

/** What Docker calls Docker Hub in its files and to its helpers. */
const dockerHubKey = 'https://index.docker.io/v1/';

/** `config.json` of Docker, `auth.json` of containers: the same form (containers-auth.json(5)). */
export interface CredentialFile {
  readonly path: string;
  /** By server, and in auth.json also by a repository or the start of one. */
  readonly auths: Readonly<Record<string, CredentialEntry>>;
  readonly credsStore?: string;
  readonly credHelpers: Readonly<Record<string, string>>;
}

export interface CredentialEntry {
  /** base64 of `USER:PASSWORD` */
  readonly auth?: string;
  readonly username?: string;
  readonly password?: string;
  /** Of OAuth 2: traded for a token. */
  readonly identitytoken?: string;
  /** Is a token already. */
  readonly registrytoken?: string;
}

/** `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`: what logins are written to. */
export function dockerConfigFile(env: NodeJS.ProcessEnv): string {
  return join(env.DOCKER_CONFIG || join(env.HOME ?? homedir(), '.docker'), 'config.json');
}

/** Every file that may have credentials, the one that counts first: Docker's, then those that Podman reads. */
export function credentialFiles(env: NodeJS.ProcessEnv, uid: number = process.getuid?.() ?? 0): readonly string[] {
  const runtime = env.XDG_RUNTIME_DIR;
  const run = runtime !== undefined && isAbsolute(runtime) ? `${runtime}/containers` : `/run/containers/${uid}`;
  const config = env.XDG_CONFIG_HOME;
  const base = config !== undefined && isAbsolute(config) ? config : join(env.HOME ?? homedir(), '.config');
  return [
    dockerConfigFile(env),
    env.REGISTRY_AUTH_FILE || join(run, 'auth.json'),
    join(base, 'containers', 'auth.json'),
  ];
}

/** Reads one; undefined when it is not there. @throws TSV_REGISTRY_LOGIN when it is not what it should be */
export function readCredentialFile(path: string): CredentialFile | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw malformed(path, message, cause);
  }
  return parseCredentialFile(text, path);
}

/** {@link readCredentialFile} without the disk. What other programs keep in the file is not looked at. */
export function parseCredentialFile(text: string, path: string): CredentialFile {
  const value = parseObject(text, path);
  const { auths, credHelpers, credsStore } = value;
  const entries = auths === undefined ? {} : auths;
  const helpers = credHelpers === undefined ? {} : credHelpers;
  if (!isObject(entries) || !Object.values(entries).every(isObject)) throw malformed(path, 'auths is no map of maps');
  if (!isObject(helpers) || !Object.values(helpers).every((name) => typeof name === 'string'))
    throw malformed(path, 'credHelpers is no map of names');
  if (credsStore !== undefined && typeof credsStore !== 'string') throw malformed(path, 'credsStore is no name');
  return {
    path,
    auths: Object.fromEntries(Object.entries(entries).map(([key, entry]) => [key, entryOf(entry, key, path)])),
    credHelpers: helpers as Record<string, string>,
    ...(credsStore === undefined || credsStore === '' ? {} : { credsStore }),
  };
}

/** The file's JSON object; none in an empty file, as Docker takes it. @throws TSV_REGISTRY_LOGIN */
export function parseObject(text: string, path: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = text.trim() === '' ? {} : JSON.parse(text);
  } catch {
    throw malformed(path, 'it is no JSON'); // the parser's message quotes the text, and there are passwords in it
  }
  if (!isObject(value)) throw malformed(path, 'it is no JSON object');
  return value;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function entryOf(value: unknown, key: string, path: string): CredentialEntry {
  const texts: Record<string, string> = {};
  for (const name of ['auth', 'username', 'password', 'identitytoken', 'registrytoken']) {
    const text = (value as Record<string, unknown>)[name];
    if (text === undefined || text === '') continue;
    if (typeof text !== 'string') throw malformed(path, `${name} of ${JSON.stringify(key)} is no text`);
    texts[name] = text;
  }
  return texts;
}

export const malformed = (path: string, why: string, cause?: unknown): TsvError =>
  new TsvError('TSV_REGISTRY_LOGIN', `${path} cannot be read: ${why}`, {
    hint: `mend it, or move it away and log in again: mv ${path} ${path}.old`,
    ...(cause === undefined ? {} : { cause }),
  });

/** What credentials of a registry are written under, and what a helper is asked for. */
export const keyOf = (host: string): string => (host === dockerHub ? dockerHubKey : host);

/**
 * Pure. The key that says most about a repository: `quay.io/team/app` before `quay.io/team` before `quay.io`. Keys with
 * a scheme are Docker's older form and stand for the whole server.
 */
export function bestKey(keys: Iterable<string>, host: string, repository = ''): string | undefined {
  const wanted = repository === '' ? host : `${host}/${repository}`;
  let best: { key: string; length: number } | undefined;
  for (const key of keys) {
    const server = normalized(key);
    if (server !== wanted && !wanted.startsWith(`${server}/`)) continue;
    if (best === undefined || server.length > best.length) best = { key, length: server.length };
  }
  return best?.key;
}

function normalized(key: string): string {
  const [, scheme, host = '', path = ''] = /^(https?:\/\/)?([^/]*)(.*)$/s.exec(key) ?? [];
  const isWhole = scheme !== undefined || /^\/(?:v[12]\/?)?$/.test(path);
  return canonicalRegistry(host) + (isWhole ? '' : path.replace(/\/$/, ''));
}
