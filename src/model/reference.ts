import { TsvError } from './errors.ts';
import { type Digest, isDigest } from './image.ts';

/** Where an image is: the parts of `registry.example.org:5000/team/app:1.2@sha256:…`. */
export interface Reference {
  /** `docker.io`, `ghcr.io`, `localhost:5000`, `[::1]:5000`: host and port as a name, not as an address to connect to. */
  readonly registry: string;
  /** `library/nginx` */
  readonly repository: string;
  /** Absent only where there is a digest. */
  readonly tag?: string;
  /** Where there is one it decides, and the tag is for people. */
  readonly digest?: Digest;
}

/** The registry of names without one. */
export const dockerHub = 'docker.io';
/** Repositories of Docker Hub whose name is one word. */
const officialPrefix = 'library/';
/** Of registry and repository together (distribution/reference: NameTotalLengthMax). */
const nameLimit = 255;
/** Longer than any name, tag and digest together. */
const textLimit = 600;

const domainForm =
  /^(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?$/;
const componentForm = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const tagForm = /^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}$/;

/** Whether `text` may be a tag (distribution-spec, "Pulling manifests"). */
export const isTag = (text: string): boolean => tagForm.test(text);

/** Whether `text` is a registry's host, with or without a port. */
export const isRegistryHost = (text: string): boolean => domainForm.test(text);

/**
 * What somebody writes, in full: `nginx` is docker.io/library/nginx:latest. The grammar is that of distribution's
 * reference package: the first part is a registry when it has a dot or a colon, is `localhost` or has upper case.
 * @throws TSV_IMAGE saying which part is wrong, and how it would be right
 */
export function parseReference(text: string): Reference {
  const wrong = (why: string, hint?: string): TsvError =>
    new TsvError('TSV_IMAGE', `${JSON.stringify(text.slice(0, 300))} is no image reference`, {
      details: [why],
      hint: hint ?? 'write it as [REGISTRY[:PORT]/]NAME[:TAG][@sha256:…], for example nginx:1.27',
    });
  if (text === '') throw wrong('it is empty');
  if (text.length > textLimit) throw wrong('it is too long');
  if (text.includes('://')) throw wrong('it starts like a URL', `leave ${text.slice(0, text.indexOf('://') + 3)} out`);
  if (looksLikeId(text)) throw wrong('64 hex digits are an id', `write sha256:${text} after a name and @`);

  const at = text.indexOf('@');
  const digest = at === -1 ? undefined : text.slice(at + 1);
  if (digest !== undefined && !isDigest(digest))
    throw wrong(
      `what follows @ is no digest: ${JSON.stringify(digest.slice(0, 150))}`,
      'sha256: and 64 hex digits, in lower case',
    );

  const named = at === -1 ? text : text.slice(0, at);
  const { registry, rest } = splitRegistry(named);
  const colon = rest.indexOf(':');
  const tag = colon === -1 ? undefined : rest.slice(colon + 1);
  const name = colon === -1 ? rest : rest.slice(0, colon);
  if (tag !== undefined && !isTag(tag))
    throw wrong(
      `${JSON.stringify(tag.slice(0, 150))} is no tag`,
      'a tag has at most 128 letters, digits, dots, dashes and underscores, and starts with none of . and -',
    );
  if (!isRegistryHost(registry)) throw wrong(`${JSON.stringify(registry)} is no host of a registry`);
  if (name === '') throw wrong('the name of the repository is missing');
  for (const component of name.split('/')) {
    if (componentForm.test(component)) continue;
    if (componentForm.test(component.toLowerCase()))
      throw wrong(
        `the name of a repository is in lower case, and ${JSON.stringify(component)} is not`,
        `did you mean ${named.slice(0, named.length - rest.length)}${name.toLowerCase()}${rest.slice(name.length)}?`,
      );
    throw wrong(
      component === ''
        ? 'a part of its name is empty'
        : `${JSON.stringify(component)} is no part of a repository's name`,
      'a part is of a-z and 0-9, with one dot, one or two underscores or any dashes in between',
    );
  }
  const repository = registry === dockerHub && !name.includes('/') ? officialPrefix + name : name;
  if (registry.length + 1 + repository.length > nameLimit)
    throw wrong(`registry and repository are longer than ${nameLimit} characters together`);
  const tagged = tag ?? (digest === undefined ? 'latest' : undefined);
  return {
    registry,
    repository,
    ...(tagged === undefined ? {} : { tag: tagged }),
    ...(digest === undefined ? {} : { digest }),
  };
}

/** Somebody who writes only this means an id, not a repository. */
const looksLikeId = (text: string): boolean => /^[0-9a-f]{64}$/.test(text);

function splitRegistry(name: string): { registry: string; rest: string } {
  const slash = name.indexOf('/');
  const first = name.slice(0, Math.max(slash, 0));
  const isHost = slash !== -1 && (looksLikeHost(first) || first !== first.toLowerCase());
  if (!isHost) return { registry: dockerHub, rest: name };
  return { registry: canonicalRegistry(first), rest: name.slice(slash + 1) };
}

const looksLikeHost = (text: string): boolean => /[.:]/.test(text) || text === 'localhost';

/**
 * One name for each registry: hosts have no case, and Docker Hub has older names. A host that is known as one by its
 * upper case only keeps it: `INTRANET/app` is not Docker Hub's `intranet/app`.
 */
export function canonicalRegistry(host: string): string {
  const lower = host.toLowerCase();
  if (lower === 'index.docker.io' || lower === 'registry-1.docker.io') return dockerHub;
  return looksLikeHost(lower) ? lower : host;
}

/** In full, as {@link parseReference} reads it back: `docker.io/library/nginx:1.27@sha256:…`. */
export function formatReference(reference: Reference): string {
  return `${reference.registry}/${reference.repository}${suffix(reference)}`;
}

/** As people write it: `nginx:1.27`. Reads back to the same. */
export function familiar(reference: Reference): string {
  const { registry, repository } = reference;
  if (registry !== dockerHub) return formatReference(reference);
  const short = repository.startsWith(officialPrefix) ? repository.slice(officialPrefix.length) : repository;
  const readsBack = splitRegistry(short).registry === dockerHub && !looksLikeId(short);
  const isShort = readsBack && short.includes('/') === (short === repository);
  return isShort ? `${short}${suffix(reference)}` : formatReference(reference);
}

const suffix = ({ tag, digest }: Reference): string =>
  `${tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@${digest}`}`;

/** A reference in full as people know it, with no more of a digest than tells it from others. */
export const shortReference = (full: string): string =>
  familiar(parseReference(full)).replace(/(@sha(?:256|512):[0-9a-f]{12})[0-9a-f]+$/, '$1…');
