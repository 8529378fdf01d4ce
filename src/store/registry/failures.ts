import { TsvError } from '../../model/errors.ts';
import type { HttpResponse } from '../download/http.ts';
import { RemoteError } from '../download/remote.ts';
import { printable } from './credential-helper.ts';
import { type Endpoint, isLoopback } from './endpoints.ts';

/** One of `errors` of an answer (distribution-spec, "Error Codes"). */
export interface RegistryComplaint {
  /** `MANIFEST_UNKNOWN`, `UNAUTHORIZED`, … */
  readonly code: string;
  readonly message: string;
}

const complaintLimitBytes = 1 << 20;

/** What the registry itself says about a failure; it is a stranger's text, and shown without control characters. */
export async function complaintsOf(response: HttpResponse): Promise<RegistryComplaint[]> {
  let bytes: Buffer;
  try {
    bytes = await response.bytes(complaintLimitBytes);
  } catch (error) {
    if (error instanceof RemoteError) return []; // the status says enough
    throw error;
  }
  return parseComplaints(bytes.toString('utf8'));
}

/** {@link complaintsOf} without the network. Token servers say `details` or `error_description` instead of `errors`. */
export function parseComplaints(text: string): RegistryComplaint[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return /^\s*</.test(text) || text.trim() === '' ? [] : [{ code: '', message: shorten(text) }];
  }
  if (typeof value !== 'object' || value === null) return [];
  const { errors, details, error_description: description, error, message } = value as Record<string, unknown>;
  if (Array.isArray(errors))
    return errors.slice(0, 5).map((entry: unknown) => {
      const { code, message: said } = (entry ?? {}) as Record<string, unknown>;
      return { code: textOf(code), message: textOf(said) || textOf(code) };
    });
  const said = [details, description, message, error].map(textOf).find((words) => words !== '');
  return said === undefined ? [] : [{ code: '', message: said }];
}

const textOf = (value: unknown): string => (typeof value === 'string' ? shorten(value) : '');
const shorten = (text: string): string => printable(text.slice(0, 500)).slice(0, 300);

/** Lines for the details of an error. */
export const complaintLines = (complaints: readonly RegistryComplaint[]): string[] =>
  complaints.map(({ code, message }) => `it says: ${message}${code === '' || code === message ? '' : ` (${code})`}`);

/** An answer that is not the wanted one, whatever was asked. `what`: `library/nginx:1.27`. */
export async function badAnswer(endpoint: Endpoint, response: HttpResponse, what: string): Promise<TsvError> {
  const { status, url } = response;
  const complaints = await complaintsOf(response);
  const details = [`HTTP ${status} from ${url.host}`, ...complaintLines(complaints)];
  if (status === 401 || status === 403) return denied(endpoint, what, { status, details, hadCredentials: undefined });
  if (status === 404)
    return new TsvError('TSV_IMAGE_UNKNOWN', `${endpoint.name} has no ${what}`, {
      details,
      hint: 'check the name; what it leaves out is docker.io/, library/ and :latest',
    });
  if (status === 429) {
    const after = response.headers['retry-after'];
    return new TsvError('TSV_REGISTRY', `${endpoint.name} refuses more requests for now`, {
      details: after === undefined ? details : [...details, `to be asked again after ${printable(after.slice(0, 60))}`],
      hint: `wait, log in (tsv image login ${endpoint.name}), or name a mirror in registries.yaml`,
    });
  }
  return new TsvError('TSV_REGISTRY', `${endpoint.name} failed: ${what}`, {
    details,
    hint: status >= 500 ? 'the registry has a problem of its own: try again later' : 'see what the registry says above',
  });
}

/** 401 or 403 in the end. `hadCredentials`: whether somebody in particular asked; undefined: not known here. */
export function denied(
  endpoint: Endpoint,
  what: string,
  { details, hadCredentials }: { status?: number; details: readonly string[]; hadCredentials: boolean | undefined },
): TsvError {
  const login = `tsv image login ${endpoint.name}`;
  if (hadCredentials === true)
    return new TsvError('TSV_REGISTRY_LOGIN', `${endpoint.name} does not let you use ${what}`, {
      details: [...details, 'credentials of yours were sent'],
      hint: `check the name and your rights, or log in as somebody else: ${login}`,
    });
  return new TsvError('TSV_REGISTRY_LOGIN', `${endpoint.name} does not let you use ${what}`, {
    details: [...details, ...(hadCredentials === false ? [`no credentials for ${endpoint.name} were found`] : [])],
    hint: `check the name (a registry says this of what it does not have, too); if it is right: ${login}`,
  });
}

/** Nothing came back, or not all of it. */
export function unreachable(endpoint: Endpoint, error: RemoteError, configFile: string): TsvError {
  return new TsvError('TSV_REGISTRY', `${endpoint.name} could not be reached`, {
    details: [printable(error.message)],
    hint: whatToCheck(endpoint, error, configFile),
    cause: error,
  });
}

function whatToCheck(endpoint: Endpoint, error: RemoteError, configFile: string): string {
  const { name } = endpoint;
  if (error.errno === 'ENOTFOUND' || error.errno === 'EAI_AGAIN')
    return `check the name ${name}, and that this host has a name server and a network (getent hosts ${name.replace(/:[0-9]*$/, '')})`;
  if (error.errno === 'ECONNREFUSED')
    return isLoopback(name)
      ? `check that a registry runs on this host, and on this port (ss -ltn)`
      : `check host and port, and that the registry runs (curl -v ${endpoint.origins[0]}/v2/)`;
  if (isCertificateError(error))
    return `if you trust this server, give the certificate of its authority: in ${configFile}, ca: FILE for ${name}`;
  if (isNotTls(error))
    return `the server does not speak TLS: if it may be used without, insecure: true for ${name} in ${configFile}`;
  return 'check the network, and HTTPS_PROXY and NO_PROXY if there is a proxy';
}

/** The other side spoke TLS, and could not prove who it is. */
export const isCertificateError = ({ errno = '' }: RemoteError): boolean =>
  /CERT|SELF_SIGNED|^UNABLE_TO_|SIGNATURE|^ERR_TLS_|^CRL_|^INVALID_(CA|PURPOSE)|^HOSTNAME_MISMATCH/.test(errno);

/** What spoke was no TLS. */
export const isNotTls = ({ errno = '' }: RemoteError): boolean =>
  errno === 'EPROTO' || errno === 'ERR_SSL_WRONG_VERSION_NUMBER' || errno === 'ERR_SSL_PACKET_LENGTH_TOO_LONG';
