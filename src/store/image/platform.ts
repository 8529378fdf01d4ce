import { TsvError } from '../../model/errors.ts';
import type { Descriptor, Platform } from '../../model/image.ts';

/** What runs here: tsv itself is for this one only. */
export const hostPlatform: Platform = { os: 'linux', architecture: 'amd64' };

/** What a system, a processor or its variant may be called. */
export const platformWord = /^[A-Za-z0-9][\w.+-]{0,63}$/;

const architectures: Readonly<Record<string, Pick<Platform, 'architecture' | 'variant'>>> = {
  x86_64: { architecture: 'amd64' },
  'x86-64': { architecture: 'amd64' },
  i386: { architecture: '386' },
  i686: { architecture: '386' },
  aarch64: { architecture: 'arm64' },
  armhf: { architecture: 'arm', variant: 'v7' },
  armel: { architecture: 'arm', variant: 'v6' },
};

/** One spelling for each, as containerd's `platforms.Normalize`: arm is arm/v7, arm64/v8 is arm64, amd64/v1 is amd64. */
export function normalizePlatform({ os, architecture, variant }: Platform): Platform {
  const lower = architecture.toLowerCase();
  const known = Object.hasOwn(architectures, lower) ? architectures[lower] : undefined;
  const name = known?.architecture ?? lower;
  const given = (known?.variant ?? variant ?? '').toLowerCase();
  const version = /^\d/.test(given) ? `v${given}` : given;
  const kept = name === 'arm' ? version || 'v7' : version === plainVariant(name) ? '' : version;
  return { os: os.toLowerCase(), architecture: name, ...(kept === '' ? {} : { variant: kept }) };
}

const plainVariant = (architecture: string): string | undefined =>
  architecture === 'arm64' ? 'v8' : architecture === 'amd64' ? 'v1' : undefined;

/** `linux/arm64/v8`; `arm64` alone is linux/arm64. @throws TSV_USAGE */
export function parsePlatform(text: string): Platform {
  const given = text.split('/');
  // arm/v7 is linux/arm/v7, and arm64 is linux/arm64.
  const parts =
    given.length === 1 || (given.length === 2 && /^v\d+$/.test(given[1] ?? '')) ? ['linux', ...given] : given;
  const [os = '', architecture = '', variant] = parts;
  if (parts.length > 3 || parts.some((part) => !platformWord.test(part))) {
    throw new TsvError('TSV_USAGE', `${JSON.stringify(text.slice(0, 100))} is no platform`, {
      hint: 'write it as OS/ARCHITECTURE[/VARIANT], for example linux/amd64 or linux/arm/v7',
    });
  }
  const platform = normalizePlatform({ os, architecture, ...(variant === undefined ? {} : { variant }) });
  if (platform.os !== 'linux') {
    throw new TsvError('TSV_USAGE', `images for ${platform.os} cannot be used here`, { hint: 'linux/ARCHITECTURE' });
  }
  return platform;
}

export const formatPlatform = ({ os, architecture, variant }: Platform): string =>
  [os, architecture, ...(variant === undefined ? [] : [variant])].join('/');

/**
 * What a processor runs, best first (containerd's `platforms.Only`): its own variant and those below it; arm64 also
 * arm, amd64 also 386.
 */
export function acceptable(wanted: Platform): readonly Platform[] {
  const { os, architecture, variant } = normalizePlatform(wanted);
  const make = (name: string, version?: string): Platform => ({
    os,
    architecture: name,
    ...(version === undefined ? {} : { variant: version }),
  });
  const number = /^v(\d+)$/.exec(variant ?? '')?.[1];
  const down = (from: number, to: number): string[] =>
    Array.from({ length: Math.max(0, from - to + 1) }, (_, index) => `v${from - index}`);
  switch (architecture) {
    case 'arm': {
      if (number === undefined) return [make('arm', variant)];
      return down(Math.min(Number(number), 8), 5).map((version) => make('arm', version));
    }
    case 'arm64':
      return [
        ...down(Math.min(Number(number ?? 8), 9), 9).map((version) => make('arm64', version)),
        make('arm64'),
        ...down(8, 5).map((version) => make('arm', version)),
      ];
    case 'amd64':
      return [
        ...down(Math.min(Number(number ?? 1), 4), 2).map((version) => make('amd64', version)),
        make('amd64'),
        make('386'),
      ];
    default:
      return [make(architecture, variant)];
  }
}

const same = (a: Platform, b: Platform): boolean => formatPlatform(a) === formatPlatform(b);

export const runsOn = (image: Platform, wanted: Platform): boolean =>
  acceptable(wanted).some((candidate) => same(candidate, normalizePlatform(image)));

/**
 * The manifests of an index that may be meant, best first: those for the platform; where none is, those that say
 * nothing about theirs, whose config then has to tell.
 */
export function candidates(manifests: readonly Descriptor[], wanted: Platform): readonly Descriptor[] {
  const fitting = acceptable(wanted).flatMap((platform) =>
    manifests.filter((entry) => entry.platform !== undefined && same(entry.platform, platform)),
  );
  return fitting.length > 0 ? fitting : manifests.filter((entry) => entry.platform === undefined);
}

/** TSV_IMAGE_UNKNOWN: the image exists, but for others. */
export function noSuchPlatform(reference: string, wanted: Platform, there: readonly Platform[]): TsvError {
  const names = [...new Set(there.map(formatPlatform))].filter((name) => !name.startsWith('unknown/'));
  const [first] = names;
  return new TsvError('TSV_IMAGE_UNKNOWN', `${reference} is not there for ${formatPlatform(wanted)}`, {
    details: names.length === 0 ? [] : [`it is there for: ${names.slice(0, 20).join(', ')}`],
    ...(first === undefined ? {} : { hint: `--platform ${first} takes it all the same; it does not run here` }),
  });
}
