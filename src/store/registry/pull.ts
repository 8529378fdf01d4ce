import { TsvError } from '../../model/errors.ts';
import type { Descriptor } from '../../model/image.ts';
import { rangeBody, rangeHeaders, statusError } from '../download/range.ts';
import { type RemoteBody, RemoteError, type RemoteFile } from '../download/remote.ts';
import type { RemoteDocument } from './api.ts';
import { acceptedTypes, checkDocument, documentLimitBytes } from './document.ts';
import { type Endpoint, repositoryAt } from './endpoints.ts';
import { badAnswer } from './failures.ts';
import { nearest } from './nearest.ts';
import { familiar, formatReference, type Reference } from './reference.ts';
import type { Session } from './session.ts';
import { listTags } from './tags.ts';

/** As many are looked at for what somebody may have meant. */
const comparedTags = 2000;

/** Without the registry, as errors name it beside the registry: `library/nginx:1.27`. */
const shortName = ({ repository, tag, digest }: Reference): string =>
  repository + (digest === undefined ? `:${tag}` : `@${digest}`);

/** distribution-spec, "Pulling manifests". @throws see ImageRegistry */
export function getManifest(session: Session, reference: Reference): Promise<RemoteDocument> {
  return session.anywhere(reference.registry, async (endpoint) => {
    const { base, access } = repositoryAt(endpoint, reference);
    const { signal } = session.options;
    const response = await session.ask(endpoint, {
      target: `${base}/manifests/${reference.digest ?? reference.tag}`,
      access,
      headers: { accept: acceptedTypes.join(', ') },
      signal,
    });
    if (response.status === 404 && !endpoint.isMirror) {
      await response.discard();
      throw await unknownImage(session, endpoint, reference);
    }
    if (response.status !== 200) throw await badAnswer(endpoint, response, shortName(reference));
    let bytes: Buffer;
    try {
      bytes = await response.bytes(documentLimitBytes);
    } catch (error) {
      if (!(error instanceof RemoteError)) throw error;
      throw new TsvError('TSV_REGISTRY', `${endpoint.name}: ${shortName(reference)} could not be read`, {
        details: [error.message],
        hint: 'try again; a manifest has at most 4 MiB',
        cause: error,
      });
    }
    return checkDocument({
      bytes,
      contentType: response.headers['content-type'],
      contentDigest: response.headers['docker-content-digest'],
      wanted: reference.digest,
      name: formatReference(reference),
    });
  });
}

/** What there is instead is the best help; where even that cannot be asked, the name alone has to do. */
async function unknownImage(session: Session, endpoint: Endpoint, reference: Reference): Promise<TsvError> {
  const { repository, tag, digest } = reference;
  const tags: string[] = [];
  let isKnown = true;
  try {
    for await (const there of listTags(session, endpoint, reference)) if (tags.push(there) === comparedTags) break;
  } catch (error) {
    if (!(error instanceof TsvError) || error.code === 'TSV_CANCELLED') throw error;
    isKnown = error.code !== 'TSV_IMAGE_UNKNOWN';
  }
  if (!isKnown)
    return new TsvError('TSV_IMAGE_UNKNOWN', `${endpoint.name} has no repository ${repository}`, {
      hint: 'check the name; what it leaves out is docker.io/, library/ and :latest',
    });
  const near = tag === undefined ? [] : nearest(tag, tags);
  const list = `tsv image tags ${familiar({ registry: reference.registry, repository })}`;
  return new TsvError(
    'TSV_IMAGE_UNKNOWN',
    digest === undefined
      ? `${endpoint.name}/${repository} has no tag ${tag}`
      : `${endpoint.name}/${repository} has nothing with the digest ${digest}`,
    { hint: near.length === 0 ? `all tags: ${list}` : `near it: ${near.join(', ')}; all tags: ${list}` },
  );
}

/**
 * distribution-spec, "Pulling blobs". The registry may redirect to another host for the bytes, which gets no proof of
 * who asks; a descriptor's `urls` are not looked at.
 */
export function blobFile(session: Session, reference: Reference, { digest }: Descriptor): RemoteFile {
  const name = `${reference.registry}/${reference.repository} ${digest.slice(0, 'sha256:'.length + 12)}`;
  return {
    name,
    open: (request) =>
      session.anywhere(reference.registry, async (endpoint): Promise<RemoteBody> => {
        const { base, access } = repositoryAt(endpoint, reference);
        const target = `${base}/blobs/${digest}`;
        const response = await session.once(endpoint, {
          target,
          access,
          headers: rangeHeaders(request),
          signal: request.signal,
        });
        if (response.status === 200 || response.status === 206) {
          const body = await rangeBody(response, request, name);
          if (!endpoint.isMirror) return body;
          return { ...body, body: watched(body.body, (error) => session.giveUp(endpoint, reference.registry, error)) };
        }
        const error = statusError(response, name);
        if (!error.retry) throw await badAnswer(endpoint, response, `blob ${digest} in ${reference.repository}`);
        await response.discard();
        throw error;
      }),
  };
}

/** A mirror that breaks off in the middle is not the one to ask for the rest. */
async function* watched(body: AsyncIterable<Uint8Array>, failed: (error: unknown) => void): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (error) {
    if (error instanceof RemoteError) failed(error);
    throw error;
  }
}

/** The repository's tags, of the first endpoint that begins to list them. */
export async function* tagsAnywhere(session: Session, reference: Reference): AsyncGenerator<string> {
  const { first, rest } = await session.anywhere(reference.registry, async (endpoint) => {
    const list = listTags(session, endpoint, reference);
    return { first: await list.next(), rest: list };
  });
  if (first.done === true) return;
  yield first.value;
  yield* rest;
}
