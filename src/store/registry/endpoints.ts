import { isIP } from 'node:net';
import type { Access } from './auth.ts';
import { type RegistriesConfig, settingsOf } from './config.ts';
import { dockerHub, type Reference } from './reference.ts';

/** A server that is asked for what a registry has: a mirror, or the registry itself. */
export interface Endpoint {
  /** For people, and the name that credentials are kept under: `docker.io`, `mirror.example.org:5000`. */
  readonly name: string;
  /** `https://registry-1.docker.io`; where plain HTTP is allowed, that comes after TLS. */
  readonly origins: readonly string[];
  /** What stands before a repository's name there: `` or `dockerhub/`. */
  readonly prefix: string;
  readonly isMirror: boolean;
  /** The user has said that nobody need prove anything here. */
  readonly insecure: boolean;
}

/** Pure. The servers to ask for what `registry` has, in order: its mirrors, then itself. */
export function endpointsOf(registry: string, config: RegistriesConfig): Endpoint[] {
  const { mirrors } = settingsOf(config, registry);
  return [
    ...mirrors.map(({ protocol, host, prefix }): Endpoint => {
      const { insecure } = settingsOf(config, host);
      const origins = protocol === 'http:' ? [`http://${host}`] : originsOf(host, insecure);
      return { name: host, origins, prefix, isMirror: true, insecure };
    }),
    originOf(registry, config),
  ];
}

/** Pure. The registry itself: what is pushed goes there, and so do logins. */
export function originOf(registry: string, config: RegistriesConfig): Endpoint {
  const { insecure } = settingsOf(config, registry);
  const host = registry === dockerHub ? 'registry-1.docker.io' : registry;
  return { name: registry, origins: originsOf(host, insecure), prefix: '', isMirror: false, insecure };
}

/** This host itself may speak plain HTTP, as everywhere else; whoever does speak TLS has to prove who it is. */
const originsOf = (host: string, insecure: boolean): readonly string[] =>
  insecure || isLoopback(host) ? [`https://${host}`, `http://${host}`] : [`https://${host}`];

/** Whether `host` (with or without a port) is 127.0.0.0/8, ::1 or localhost. */
export function isLoopback(host: string): boolean {
  const name = host
    .replace(/:[0-9]*$/, '')
    .replace(/^\[(.*)\]$/, '$1')
    .toLowerCase();
  if (name === 'localhost') return true;
  return isIP(name) === 4 ? name.startsWith('127.') : /^(?:0*:)+:?0*1$/.test(name) && isIP(name) === 6;
}

/** `/v2/NAME/` of a repository, and what a token for reading it has to allow. */
export function repositoryAt(endpoint: Endpoint, { repository }: Reference): { base: string; access: Access } {
  const name = endpoint.prefix + repository;
  return { base: `/v2/${name}`, access: { scopes: [`repository:${name}:pull`], repository: name } };
}
