import { Readable } from 'node:stream';
import { TsvError } from '../../model/errors.ts';
import type { Descriptor } from '../../model/image.ts';
import { digestOf } from '../content/digest.ts';
import type { HttpResponse } from '../download/http.ts';
import { statusError } from '../download/range.ts';
import { RemoteError } from '../download/remote.ts';
import type { ImageRegistry, UploadRequest } from './api.ts';
import type { Access } from './auth.ts';
import { type Endpoint, originOf } from './endpoints.ts';
import { badAnswer } from './failures.ts';
import type { Reference } from './reference.ts';
import type { Session } from './session.ts';

/** Of a piece, where a whole blob is too large for a proxy on the way. */
const smallChunkBytes = 16 << 20;
/** No registry may make the pieces so large that sending one again hurts. */
const chunkLimitBytes = 1 << 30;
const attempts = 5;

export interface PushOptions {
  /** Bytes of a piece; all in one unless said. */
  readonly chunkBytes?: number;
}

/** Where one repository is pushed to: always the registry itself, never a mirror. */
export class Push {
  private readonly session: Session;
  private readonly reference: Reference;
  private readonly endpoint: Endpoint;
  private readonly chunk: number;

  constructor(session: Session, reference: Reference, options: PushOptions = {}) {
    this.session = session;
    this.reference = reference;
    this.endpoint = originOf(reference.registry, session.options.config);
    this.chunk = options.chunkBytes ?? Number.POSITIVE_INFINITY;
  }

  private get base(): string {
    return `/v2/${this.reference.repository}`;
  }

  private access(mountFrom?: string): Access {
    const { repository } = this.reference;
    const lender = mountFrom === undefined ? [] : [`repository:${mountFrom}:pull`];
    return { scopes: [`repository:${repository}:pull,push`, ...lender], repository };
  }

  /** distribution-spec, "Checking if content exists in the registry". */
  async exists({ digest, size }: Descriptor, signal: AbortSignal): Promise<boolean> {
    const target = `${this.base}/blobs/${digest}`;
    const response = await this.session.ask(this.endpoint, { method: 'HEAD', target, access: this.access(), signal });
    if (response.status === 404) {
      await response.discard();
      return false;
    }
    if (response.status !== 200) throw await badAnswer(this.endpoint, response, `blob ${digest}`);
    await response.discard();
    const length = response.headers['content-length'];
    return length === undefined || Number(length) === size;
  }

  /** distribution-spec, "Pushing blobs", "Mounting a blob from another repository". */
  async upload(blob: Descriptor, upload: UploadRequest): ReturnType<ImageRegistry['uploadBlob']> {
    const { signal, mountFrom } = upload;
    if (await this.exists(blob, signal)) return 'already there';
    const begun = await this.begin(blob, signal, mountFrom === this.reference.repository ? undefined : mountFrom);
    if (begun === 'mounted') return 'mounted';
    await this.send(blob, upload, begun);
    return 'uploaded';
  }

  private async begin(
    { digest }: Pick<Descriptor, 'digest'>,
    signal: AbortSignal,
    from?: string,
  ): Promise<'mounted' | { readonly location: URL; readonly leastChunk: number }> {
    const query = from === undefined ? '' : `?mount=${encodeURIComponent(digest)}&from=${encodeURIComponent(from)}`;
    const ask = (): Promise<HttpResponse> =>
      this.session.ask(this.endpoint, {
        method: 'POST',
        target: `${this.base}/blobs/uploads/${query}`,
        access: this.access(from),
        headers: { 'content-length': '0' },
        signal,
      });
    let response: HttpResponse;
    try {
      response = await ask();
    } catch (error) {
      // Who may not read the lender's repository sends the bytes.
      if (from === undefined || !isRefusal(error)) throw error;
      return await this.begin({ digest }, signal);
    }
    if (response.status !== 201 && response.status !== 202) {
      const error = await badAnswer(this.endpoint, response, `upload to ${this.reference.repository}`);
      if (from !== undefined && isRefusal(error)) return await this.begin({ digest }, signal);
      throw error;
    }
    await response.discard();
    if (response.status === 201) return 'mounted';
    const least = Number(response.headers['oci-chunk-min-length'] ?? 0);
    return { location: this.location(response), leastChunk: least > 0 && least <= chunkLimitBytes ? least : 0 };
  }

  /**
   * In one piece, as every registry takes it; in several where a proxy before it does not (413). What did not arrive is
   * sent again from where the registry is, or all of it when the registry has let go what it had.
   */
  private async send(
    blob: Descriptor,
    upload: UploadRequest,
    begun: { location: URL; leastChunk: number },
  ): Promise<void> {
    let { location, leastChunk } = begun;
    let chunk = this.chunk;
    let sent = 0;
    for (let failures = 0; ; ) {
      const size = Math.max(chunk, leastChunk);
      const end = Math.min(blob.size, sent + size);
      const isLast = end === blob.size;
      try {
        const response = await this.sendPiece(blob, upload, location, { start: sent, end, isLast });
        if (isLast) return;
        location = this.location(response);
        sent = end;
        failures = 0;
        continue;
      } catch (error) {
        failures += 1;
        const isTooLarge = error instanceof RemoteError && error.status === 413 && size > smallChunkBytes;
        if (!(error instanceof RemoteError) || !(error.retry || isTooLarge) || failures === attempts)
          throw this.described(error);
        if (isTooLarge) chunk = smallChunkBytes;
        else await this.session.pause(failures, error, upload.signal);
        const state = isTooLarge ? undefined : await this.uploadState(location, upload.signal);
        if (state !== undefined) ({ location, sent } = state);
        else {
          const again = await this.begin(blob, upload.signal);
          if (again === 'mounted') return; // without a lender: it has come in another way meanwhile
          ({ location, leastChunk } = again);
          sent = 0;
        }
      }
      upload.progress?.(sent);
    }
  }

  private async sendPiece(
    blob: Descriptor,
    { open, signal, progress }: UploadRequest,
    location: URL,
    { start, end, isLast }: { start: number; end: number; isLast: boolean },
  ): Promise<HttpResponse> {
    const target = new URL(location);
    // As text: what else is in there is the registry's, to be given back as it is.
    if (isLast) target.search += `${target.search === '' ? '?' : '&'}digest=${encodeURIComponent(blob.digest)}`;
    const response = await this.session.once(this.endpoint, {
      method: isLast ? 'PUT' : 'PATCH',
      target,
      access: this.access(),
      headers: {
        'content-type': 'application/octet-stream',
        'content-length': String(end - start),
        // Both ends are inclusive, and there is no `bytes` here (distribution-spec, "Pushing a blob in chunks").
        ...(start === 0 && isLast ? {} : end === start ? {} : { 'content-range': `${start}-${end - 1}` }),
      },
      body: () =>
        start === end
          ? new Uint8Array(0)
          : Readable.from(
              counted(open({ start, end }), (done) => progress?.(start + done)),
              { objectMode: false },
            ),
      signal,
    });
    if (response.status === (isLast ? 201 : 202) || (isLast && response.status === 204)) {
      await response.discard();
      if (isLast) progress?.(blob.size);
      return response;
    }
    const error = statusError(response, `upload of blob ${blob.digest}`);
    // 416: the registry has another count of what has arrived, and will be asked for it.
    if (error.retry || response.status === 413 || response.status === 416) {
      await response.discard();
      throw response.status === 416 ? new RemoteError(error.message, { retry: true, status: 416 }) : error;
    }
    throw await badAnswer(this.endpoint, response, `upload of blob ${blob.digest}`);
  }

  /** How much of an upload the registry has (`GET` of its location); undefined when it knows nothing of it any more. */
  private async uploadState(location: URL, signal: AbortSignal): Promise<{ location: URL; sent: number } | undefined> {
    const response = await this.session.ask(this.endpoint, { target: location, access: this.access(), signal });
    await response.discard();
    if (response.status !== 204 && response.status !== 202 && response.status !== 200) return undefined;
    const [, last] = /^(?:bytes=)?0-(\d{1,15})$/.exec(response.headers.range ?? '') ?? [];
    // An upload without a byte says `0-0`, as one with a single byte does: the former is meant by all registries.
    const sent = last === undefined || last === '0' ? 0 : Number(last) + 1;
    return { location: response.headers.location === undefined ? location : this.location(response), sent };
  }

  /**
   * Where the upload goes on. A registry behind a proxy often takes itself for `http:`; what has the registry's host goes
   * to the address that has answered.
   */
  private location({ url, headers }: HttpResponse): URL {
    const { location } = headers;
    if (location === undefined || !URL.canParse(location, url.href))
      throw new TsvError('TSV_REGISTRY', `${this.endpoint.name} does not say where an upload goes`);
    const next = new URL(location, url);
    next.username = next.password = '';
    const isOwn = next.hostname === url.hostname && (next.port === url.port || next.port === '');
    if (isOwn && next.pathname.startsWith('/v2/')) return new URL(`${next.pathname}${next.search}`, url);
    if (next.protocol === 'https:' || url.protocol === 'http:') return next;
    throw new TsvError('TSV_REGISTRY', `${this.endpoint.name} wants an upload to go to ${next.origin}, without TLS`);
  }

  /** distribution-spec, "Pushing Manifests". */
  async manifest(document: { mediaType: string; bytes: Uint8Array }, signal: AbortSignal): Promise<Descriptor> {
    const { bytes, mediaType } = document;
    const digest = digestOf(bytes);
    const name = this.reference.tag ?? digest;
    const response = await this.session.ask(this.endpoint, {
      method: 'PUT',
      target: `${this.base}/manifests/${name}`,
      access: this.access(),
      headers: { 'content-type': mediaType },
      body: () => bytes,
      signal,
    });
    if (response.status !== 201 && response.status !== 200 && response.status !== 202)
      throw await badAnswer(this.endpoint, response, `manifest ${name} of ${this.reference.repository}`);
    await response.discard();
    const got = response.headers['docker-content-digest'];
    if (got?.startsWith('sha256:') && got !== digest)
      throw new TsvError('TSV_DIGEST', `${this.endpoint.name} has stored something else than what was pushed`, {
        details: [`pushed: ${digest}`, `stored: ${got.slice(0, 150)}`],
        hint: 'nothing of it is to be trusted; tell whoever runs the registry',
      });
    return { mediaType, digest, size: bytes.length };
  }

  private described(error: unknown): unknown {
    return error instanceof RemoteError ? this.session.unreachable(this.endpoint, error) : error;
  }
}

const isRefusal = (error: unknown): boolean =>
  error instanceof TsvError && (error.code === 'TSV_REGISTRY_LOGIN' || error.code === 'TSV_IMAGE_UNKNOWN');

async function* counted(source: AsyncIterable<Uint8Array>, done: (bytes: number) => void): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  for await (const chunk of source) {
    yield chunk;
    bytes += chunk.length;
    done(bytes);
  }
}
