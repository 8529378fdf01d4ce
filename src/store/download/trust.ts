import { existsSync, readFileSync } from 'node:fs';
import { createSecureContext, rootCertificates, type SecureContext } from 'node:tls';
import { TsvError } from '../../model/errors.ts';

/** What a server has to prove, where that is not the usual. */
export interface Trust {
  /** PEM: authorities that count beside those of this host. */
  readonly ca?: string;
  /** Nobody proves anything. */
  readonly anybody: boolean;
}

/** Where hosts keep the authorities that they trust: Debian and its kin, Fedora and its kin, SUSE. */
const systemFiles = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
] as const;

/** Of tls.connect. */
export interface TlsOptions {
  readonly secureContext: SecureContext;
  readonly rejectUnauthorized: boolean;
}

/** For a server: the same authorities as other programs of the host know, so that an administrator's count here, too. */
export function tlsOptions(env: NodeJS.ProcessEnv, trust: Trust | undefined): TlsOptions {
  const own = trust?.ca === undefined ? [] : [trust.ca];
  const ca = [...authorities(env), ...own];
  let secureContext: SecureContext;
  try {
    secureContext = createSecureContext({ ca }); // once: a few hundred certificates take their time to be read
  } catch (cause) {
    throw new TsvError('TSV_DOWNLOAD', 'the certificates of the authorities cannot be read', {
      details: [(cause as Error).message],
      hint: 'look at the file that SSL_CERT_FILE, NODE_EXTRA_CA_CERTS or ca in registries.yaml names',
      cause,
    });
  }
  return { secureContext, rejectUnauthorized: trust?.anybody !== true };
}

/** PEM texts. `SSL_CERT_FILE` instead of the host's, as with OpenSSL; `NODE_EXTRA_CA_CERTS` in addition, as with Node. */
function authorities(env: NodeJS.ProcessEnv): string[] {
  const system = env.SSL_CERT_FILE || systemFiles.find((file) => existsSync(file));
  const extra = env.NODE_EXTRA_CA_CERTS;
  return [
    ...(system === undefined ? rootCertificates : [readPem(system)]),
    ...(extra === undefined || extra === '' ? [] : [readPem(extra)]),
  ];
}

function readPem(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new TsvError('TSV_DOWNLOAD', `the authorities in ${file} cannot be read`, {
      details: [(cause as Error).message],
      hint: 'SSL_CERT_FILE and NODE_EXTRA_CA_CERTS may name such files: correct or unset them',
      cause,
    });
  }
}
