import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { TsvError } from '../../model/errors.ts';
import { run } from '../../sys/command.ts';

/** What the host's apt knows that a box needs in order to reach the same mirrors. */
export interface HostApt {
  /** deb822 text: the Debian entries of the host's sources for this suite. */
  readonly sources: string;
  /** apt.conf text: proxies and the like. */
  readonly settings: string;
  /** Proxies on the host's loopback: good for the build, out of reach from a machine. */
  readonly buildEnv: Readonly<Record<string, string>>;
  /** Certificate authorities that the host's administrator added: file name -> PEM text. */
  readonly authorities: Readonly<Record<string, string>>;
}

/** One entry of the sources, in the words of sources.list(5). */
export interface Source {
  readonly uris: readonly string[];
  readonly suites: readonly string[];
  readonly components: readonly string[];
  readonly signedBy: string | undefined;
  readonly trusted: boolean;
}

/**
 * Reads the host's apt set-up for a suite.
 * @throws TSV_BOX_BUILD when the host has no Debian source for this suite.
 */
export async function readHostApt(suite: string, env: NodeJS.ProcessEnv = process.env): Promise<HostApt> {
  const all = sourceFiles('/etc/apt').flatMap(({ name, text }) =>
    name.endsWith('.list') ? parseList(text) : parseDeb822(text),
  );
  const sources = forSuite(all, suite);
  if (!sources.some((source) => source.suites.includes(suite))) {
    throw new TsvError('TSV_BOX_BUILD', `the host's apt has no Debian source for ${suite}`, {
      details: ['a box is built from the entries of /etc/apt/sources.list and /etc/apt/sources.list.d'],
      hint: `add a file /etc/apt/sources.list.d/${suite}.sources; docs/boxes.md has one to copy`,
    });
  }
  const dump = await run(['apt-config', 'dump']);
  return { sources: formatDeb822(sources), ...aptSettings(dump.stdout, env), authorities: localAuthorities() };
}

function sourceFiles(dir: string): { name: string; text: string }[] {
  const names = [join(dir, 'sources.list')];
  try {
    names.push(
      ...readdirSync(join(dir, 'sources.list.d'))
        .sort()
        .map((name) => join(dir, 'sources.list.d', name)),
    );
  } catch {
    // No folder of parts: the one file is all.
  }
  return names
    .filter((name) => /\.(list|sources)$/.test(name))
    .flatMap((name) => {
      try {
        return [{ name, text: readFileSync(name, 'utf8') }];
      } catch {
        return []; // absent, or not for this user's eyes
      }
    });
}

/** The one-line style of sources.list(5): `deb [options] uri suite component…`. Pure. */
export function parseList(text: string): Source[] {
  return text.split('\n').flatMap((line) => {
    const match = /^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]*)/.exec(line);
    if (match === null) return [];
    const options = new Map(
      (match[1] ?? '').split(/\s+/).map((option) => [option.split('=')[0], option.split('=')[1]]),
    );
    return [
      {
        uris: [match[2] ?? ''],
        suites: [match[3] ?? ''],
        components: words(match[4]),
        signedBy: options.get('signed-by'),
        trusted: options.get('trusted') === 'yes',
      },
    ];
  });
}

/** The deb822 style of sources.list(5). A key inside the file (a folded Signed-By) is kept as it stands. Pure. */
export function parseDeb822(text: string): Source[] {
  const stanzas = text.replaceAll(/^#.*\n/gm, '').split(/\n\s*\n/);
  return stanzas.flatMap((stanza) => {
    const fields = new Map<string, string>();
    for (const match of stanza.matchAll(/^([A-Za-z-]+):[ \t]*(.*(?:\n[ \t].*)*)/gm)) {
      fields.set((match[1] ?? '').toLowerCase(), (match[2] ?? '').trimEnd());
    }
    if (!words(fields.get('types')).includes('deb') || fields.get('enabled')?.toLowerCase() === 'no') return [];
    return [
      {
        uris: words(fields.get('uris')),
        suites: words(fields.get('suites')),
        components: words(fields.get('components')),
        signedBy: fields.get('signed-by'),
        trusted: fields.get('trusted') === 'yes',
      },
    ];
  });
}

const words = (text: string | undefined): string[] => (text ?? '').split(/\s+/).filter((word) => word !== '');

/**
 * Debian's own entries for a suite, its updates and its security fixes. Other vendors may use the same suite name:
 * they sign with a key that is not in Debian's keyring. Pure.
 */
export function forSuite(sources: readonly Source[], suite: string): Source[] {
  const wanted = [suite, `${suite}-updates`, `${suite}-security`];
  return sources.flatMap((source) => {
    const suites = source.suites.filter((name) => wanted.includes(name));
    const debian = source.signedBy === undefined || /\/debian-archive-[a-z0-9.-]+$/.test(source.signedBy);
    return suites.length > 0 && debian && source.components.includes('main') ? [{ ...source, suites }] : [];
  });
}

export function formatDeb822(sources: readonly Source[]): string {
  return sources
    .map(({ uris, suites, components, signedBy, trusted }) =>
      [
        'Types: deb',
        `URIs: ${uris.join(' ')}`,
        `Suites: ${suites.join(' ')}`,
        `Components: ${components.join(' ')}`,
        ...(signedBy === undefined ? [] : [`Signed-By: ${signedBy}`]),
        ...(trusted ? ['Trusted: yes'] : []),
        '',
      ].join('\n'),
    )
    .join('\n');
}

/**
 * The lines of `apt-config dump` that say how mirrors are reached, and the proxies of the environment. Paths of the
 * host (certificates, programs) and credentials stay out. Pure.
 */
export function aptSettings(dump: string, env: NodeJS.ProcessEnv): Pick<HostApt, 'settings' | 'buildEnv'> {
  const wanted = /^Acquire::(https?::.*|ForceIPv[46]|Check-Valid-Until|Check-Date|Retries|Max-FutureTime) "([^"]*)";$/;
  const kept = new Map<string, string>();
  const buildEnv: Record<string, string> = {};
  const keep = (key: string, value: string) => {
    const proxy = /^Acquire::(https?)::Proxy$/i.exec(key)?.[1];
    if (value === '' || value.startsWith('/')) return;
    if (proxy !== undefined && isLoopback(value)) buildEnv[`${proxy.toLowerCase()}_proxy`] = value;
    else if (proxy === undefined || !hasPassword(value)) kept.set(key, value);
    else buildEnv[`${proxy.toLowerCase()}_proxy`] = value;
  };
  for (const scheme of ['http', 'https']) keep(`Acquire::${scheme}::Proxy`, env[`${scheme}_proxy`] ?? '');
  for (const line of dump.split('\n')) {
    const match = wanted.exec(line);
    if (
      match !== null &&
      !/::(Proxy-Auto-Detect|ProxyAutoDetect|SslKey|SslCert|CaInfo|CaPath)$/i.test(line.split(' ')[0] ?? '')
    ) {
      keep(`Acquire::${match[1]}`, match[2] ?? '');
    }
  }
  return { settings: [...kept].map(([key, value]) => `${key} "${value}";\n`).join(''), buildEnv };
}

const isLoopback = (url: string): boolean => /^[a-z]+:\/\/([^@/]*@)?(localhost|127\.|\[::1\])/i.test(url);
const hasPassword = (url: string): boolean => /^[a-z]+:\/\/[^@/]*@/i.test(url);

function localAuthorities(dir = '/usr/local/share/ca-certificates'): Record<string, string> {
  try {
    const names = readdirSync(dir)
      .filter((name) => name.endsWith('.crt'))
      .sort();
    return Object.fromEntries(names.map((name) => [name, readFileSync(join(dir, name), 'utf8')]));
  } catch {
    return {}; // none, or not readable: a mirror that needs one says so during the build
  }
}
