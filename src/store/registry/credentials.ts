import {
  bestKey,
  type CredentialEntry,
  type CredentialFile,
  credentialFiles,
  keyOf,
  malformed,
  readCredentialFile,
} from './credential-files.ts';
import { getFromHelper } from './credential-helper.ts';

export type Credentials =
  | { readonly kind: 'password'; readonly username: string; readonly password: string }
  /** A refresh token of OAuth 2. */
  | { readonly kind: 'identity'; readonly token: string }
  /** Used as it is. */
  | { readonly kind: 'bearer'; readonly token: string };

/** Who somebody is at a registry. */
export interface CredentialSource {
  /** undefined: nobody in particular. @throws TSV_REGISTRY_LOGIN for a file or a helper that does not work */
  find(host: string, repository?: string): Promise<Credentials | undefined>;
}

export interface CredentialOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
  /** Of a helper's answer. */
  readonly helperTimeoutMs?: number;
}

/** What Docker and Podman have been told, by their files and helpers. Each file and each helper is asked once. */
export function userCredentials(options: CredentialOptions): CredentialSource {
  const asked = new Map<string, Promise<Credentials | undefined>>();
  let files: readonly CredentialFile[] | undefined;
  return {
    find(host, repository = '') {
      const key = `${host}/${repository}`;
      let answer = asked.get(key);
      if (answer === undefined) {
        answer = (async () => {
          files ??= credentialFiles(options.env).flatMap((path) => readCredentialFile(path) ?? []);
          return await findIn(files, host, repository, options);
        })();
        asked.set(key, answer);
      }
      return answer;
    },
  };
}

async function findIn(
  files: readonly CredentialFile[],
  host: string,
  repository: string,
  options: CredentialOptions,
): Promise<Credentials | undefined> {
  for (const file of files) {
    const helper = helperOf(file, host);
    if (helper !== undefined) {
      const { env, signal, helperTimeoutMs: timeoutMs } = options;
      const found = await getFromHelper(helper, keyOf(host), {
        env,
        signal,
        file: file.path,
        ...(timeoutMs === undefined ? {} : { timeoutMs }),
      });
      if (found !== undefined)
        return found.username === '<token>'
          ? { kind: 'identity', token: found.secret }
          : { kind: 'password', username: found.username, password: found.secret };
    }
    const key = bestKey(Object.keys(file.auths), host, repository);
    const entry = key === undefined ? undefined : file.auths[key];
    const credentials = entry === undefined ? undefined : credentialsOf(entry, key ?? host, file.path);
    if (credentials !== undefined) return credentials;
  }
  return undefined;
}

/** The program that keeps a server's credentials, where there is one. */
export function helperOf(file: CredentialFile, host: string): string | undefined {
  const key = bestKey(Object.keys(file.credHelpers), host);
  // An empty name says that this server's credentials are in the file, whatever credsStore is.
  return key === undefined ? file.credsStore : file.credHelpers[key] || undefined;
}

/** Pure. An entry that says nothing (Docker leaves `{}` behind where a helper has the secret) is none. */
export function credentialsOf(entry: CredentialEntry, key: string, path: string): Credentials | undefined {
  if (entry.identitytoken !== undefined) return { kind: 'identity', token: entry.identitytoken };
  if (entry.registrytoken !== undefined) return { kind: 'bearer', token: entry.registrytoken };
  if (entry.auth === undefined) {
    const { username, password } = entry;
    return username === undefined || password === undefined ? undefined : { kind: 'password', username, password };
  }
  const text = Buffer.from(entry.auth, 'base64').toString('utf8').replace(/\0+$/, '');
  const colon = text.indexOf(':');
  if (colon < 1) throw malformed(path, `auth of ${JSON.stringify(key)} is not base64 of USER:PASSWORD`);
  return { kind: 'password', username: text.slice(0, colon), password: text.slice(colon + 1) };
}
