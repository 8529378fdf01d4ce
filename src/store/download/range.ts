import type { HttpResponse } from './http.ts';
import { type RemoteBody, RemoteError, type RemoteRequest } from './remote.ts';

/** Headers of a request for a part of a file (RFC 9110 14.2, 13.1.5), byte for byte. */
export function rangeHeaders({ offset, end, validator }: RemoteRequest): Record<string, string> {
  const identity = { 'accept-encoding': 'identity' };
  if (offset === 0 && end === undefined) return identity;
  const range = `bytes=${offset}-${end === undefined ? '' : end - 1}`;
  return validator === undefined ? { ...identity, range } : { ...identity, range, 'if-range': validator };
}

/** The answer to {@link rangeHeaders}: 200 or 206. @throws RemoteError for any other, or one that does not fit. */
export async function rangeBody(response: HttpResponse, request: RemoteRequest, name: string): Promise<RemoteBody> {
  const { status, headers, body } = response;
  const validator = validatorOf(headers);
  const common = { ...(validator === undefined ? {} : { validator }), body };
  if (status === 200) {
    const total = headers['content-length'] === undefined ? undefined : wholeNumber(headers['content-length']);
    const asked = request.offset !== 0 || request.end !== undefined;
    return {
      ...common,
      offset: 0,
      ...(total === undefined ? {} : { total }),
      ranges: !asked && headers['accept-ranges'] === 'bytes',
    };
  }
  if (status === 206) {
    const range = parseContentRange(headers['content-range']);
    if (range === undefined) {
      await response.discard();
      throw new RemoteError(`${name}: the server answers with a part, and does not say which`, {
        retry: false,
        status,
      });
    }
    return { ...common, ...range, ranges: true };
  }
  await response.discard();
  throw statusError(response, name);
}

/** A status that is not what was hoped for. The body is the caller's to discard. */
export function statusError({ status, headers }: HttpResponse, name: string, now = Date.now()): RemoteError {
  const retryAfterMs = parseRetryAfter(headers['retry-after'], now);
  const passing = status === 408 || status === 425 || status === 429 || (status >= 500 && status !== 501);
  const meaning = { 401: ' (credentials are wanted)', 403: ' (forbidden)', 404: ' (not found)' }[status] ?? '';
  const busy = status === 429 ? ' (too many requests)' : status === 503 ? ' (not available now)' : '';
  return new RemoteError(`${name}: the server answers with status ${status}${meaning}${busy}`, {
    retry: passing,
    status,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}

/** Retry-After (RFC 9110 10.2.3): seconds or a date; `now` in ms since 1970. */
export function parseRetryAfter(value: string | undefined, now: number): number | undefined {
  if (value === undefined) return undefined;
  if (/^\s*\d{1,9}\s*$/.test(value)) return Number(value) * 1000;
  const date = Date.parse(value);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}

/** Content-Range (RFC 9110 14.4): `bytes 5-9/20` or `bytes 5-9/*`. */
export function parseContentRange(value: string | undefined): { offset: number; total?: number } | undefined {
  const [, first, last, total] = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15}|\*)$/.exec(value ?? '') ?? [];
  if (first === undefined || last === undefined || Number(last) < Number(first)) return undefined;
  if (total === undefined || total === '*') return { offset: Number(first) };
  return Number(last) < Number(total) ? { offset: Number(first), total: Number(total) } : undefined;
}

/** What If-Range may be made of: no weak ETag (RFC 9110 13.1.5). */
function validatorOf(headers: HttpResponse['headers']): string | undefined {
  const { etag } = headers;
  return etag?.startsWith('"') === true ? etag : headers['last-modified'];
}

const wholeNumber = (text: string): number | undefined => (/^\d{1,15}$/.test(text) ? Number(text) : undefined);
