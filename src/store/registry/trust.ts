import { readFileSync } from 'node:fs';
import { TsvError } from '../../model/errors.ts';
import type { Trust } from '../download/trust.ts';
import type { RegistriesConfig } from './config.ts';
import { canonicalRegistry } from './reference.ts';

/** Which servers have to prove what: by host and port of a URL, from registries.yaml. */
export function registryTrust(config: RegistriesConfig): (host: string) => Trust | undefined {
  const byHost = new Map([...config].map(([name, settings]) => [name.toLowerCase(), settings])); // as URLs have them
  return (host) => {
    const settings = byHost.get(canonicalRegistry(host));
    if (settings === undefined || (settings.ca === undefined && !settings.insecure)) return undefined;
    return {
      ...(settings.ca === undefined ? {} : { ca: readAuthorities(settings.ca, host) }),
      anybody: settings.insecure,
    };
  };
}

function readAuthorities(file: string, host: string): string {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new TsvError('TSV_REGISTRY', `${file}, the authorities of ${host}, cannot be read`, {
      details: [(cause as Error).message],
      hint: 'registries.yaml names it, as ca',
      cause,
    });
  }
  if (text.includes('-----BEGIN CERTIFICATE-----')) return text;
  throw new TsvError('TSV_REGISTRY', `${file}, the authorities of ${host}, is no PEM file with certificates`, {
    hint: 'one can be made of another form: openssl x509 -inform der -in FILE -out ca.pem',
  });
}
