import { RemoteError } from './remote.ts';

/** In words; what is not here is shown as it came. */
const words: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'refuses connections',
  ECONNRESET: 'broke the connection',
  EPIPE: 'broke the connection',
  UND_ERR_SOCKET: 'broke the connection',
  ENOTFOUND: 'is not known: its name has no address',
  EAI_AGAIN: 'could not be looked up: the name server does not answer',
  EHOSTUNREACH: 'cannot be reached',
  ENETUNREACH: 'cannot be reached: there is no route',
  ETIMEDOUT: 'does not answer',
  UND_ERR_CONNECT_TIMEOUT: 'does not answer',
  UND_ERR_HEADERS_TIMEOUT: 'takes the request and does not answer',
  UND_ERR_BODY_TIMEOUT: 'stopped in the middle of its answer',
  UND_ERR_HEADERS_OVERFLOW: 'answers with too many headers',
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: 'sent fewer or more bytes than it said',
  ERR_SSL_WRONG_VERSION_NUMBER: 'does not speak TLS on this port',
};
/** Waiting does not mend these: a name without an address, a certificate, a server that speaks something else. */
const lasting =
  /^(ENOTFOUND$|CERT_|ERR_TLS|ERR_SSL|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|UND_ERR_(HEADERS_OVERFLOW|PRX|INVALID))/;

/** What the network, TLS or undici threw, for people; `host` with its port. */
export function networkError(cause: unknown, host: string): RemoteError {
  if (cause instanceof RemoteError) return cause;
  const error = firstOf(cause);
  const errno = 'code' in error && typeof error.code === 'string' ? error.code : undefined;
  const message = (errno === undefined ? undefined : words[errno]) ?? `: ${error.message || errno || error.name}`;
  return new RemoteError(message.startsWith(':') ? `${host}${message}` : `${host} ${message}`, {
    retry: errno === undefined || !lasting.test(errno),
    ...(errno === undefined ? {} : { errno }),
    cause,
  });
}

/** A host with several addresses fails with all of their errors. */
function firstOf(cause: unknown): Error {
  if (cause instanceof AggregateError && cause.errors[0] instanceof Error) return cause.errors[0];
  return cause instanceof Error ? cause : new Error(String(cause));
}
