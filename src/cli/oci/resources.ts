import { TsvError } from '../../model/errors.ts';
import type { OciResources } from '../../oci/spec.ts';
import type { OptionsOf } from './commands.ts';

/**
 * The limits that the options of `update` name; what they do not name is absent. As for runc, 0 and an empty text name
 * nothing.
 * @throws TSV_USAGE, TSV_UNSUPPORTED
 */
export function readResources(options: OptionsOf<'update'>): OciResources {
  for (const name of ['l3-cache-schema', 'mem-bw-schema'] as const) {
    if (given(options[name])) throw new TsvError('TSV_UNSUPPORTED', `--${name}: Intel RDT is not supported`);
  }
  const memory = present({
    limit: bytes('memory', options.memory),
    reservation: bytes('memory-reservation', options['memory-reservation']),
    swap: bytes('memory-swap', options['memory-swap']),
  });
  const cpu = present({
    shares: whole('cpu-share', options['cpu-share'], 'unsigned'),
    quota: whole('cpu-quota', options['cpu-quota'], 'signed'),
    period: whole('cpu-period', options['cpu-period'], 'unsigned'),
    realtimeRuntime: whole('cpu-rt-runtime', options['cpu-rt-runtime'], 'signed'),
    realtimePeriod: whole('cpu-rt-period', options['cpu-rt-period'], 'unsigned'),
    cpus: given(options['cpuset-cpus']),
    mems: given(options['cpuset-mems']),
  });
  const pids = present({ limit: options['pids-limit'] === 0 ? undefined : options['pids-limit'] });
  const blockIO = present({ weight: weight(options['blkio-weight']) });
  return {
    ...(memory === undefined ? {} : { memory }),
    ...(cpu === undefined ? {} : { cpu }),
    ...(pids === undefined ? {} : { pids }),
    ...(blockIO === undefined ? {} : { blockIO }),
  };
}

const given = (text: string | undefined): string | undefined => (text === '' ? undefined : text);

type Present<T> = { readonly [K in keyof T]?: Exclude<T[K], undefined> };

/** Without what is undefined; undefined when nothing is left. */
function present<T extends object>(object: T): Present<T> | undefined {
  const entries = Object.entries(object).filter(([, value]) => value !== undefined);
  return entries.length === 0 ? undefined : (Object.fromEntries(entries) as Present<T>);
}

function whole(name: string, text: string | undefined, sign: 'signed' | 'unsigned'): number | undefined {
  if (given(text) === undefined) return undefined;
  const value = (sign === 'signed' ? /^[+-]?\d+$/ : /^\d+$/).test(text ?? '') ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(value)) return value;
  throw invalid(name, text, sign === 'signed' ? 'a whole number' : 'a whole number, 0 or more');
}

function weight(value: number | undefined): number | undefined {
  if (value === undefined || value === 0) return undefined;
  if (value >= 10 && value <= 1000) return value;
  throw invalid('blkio-weight', String(value), 'a whole number from 10 to 1000');
}

const units = ['', 'k', 'm', 'g', 't', 'p'];

/** Bytes with or without a unit of 1024: `50000000`, `512M`, `1.5GiB`; -1 stands for no limit. */
function bytes(name: string, text: string | undefined): number | undefined {
  if (given(text) === undefined) return undefined;
  if (text === '-1') return -1;
  const [, count, unit = ''] = /^(\d+(?:\.\d+)?) ?([kmgtp]?)i?b?$/i.exec(text ?? '') ?? [];
  const value = Math.trunc(Number(count) * 1024 ** units.indexOf(unit.toLowerCase()));
  if (Number.isSafeInteger(value)) return value;
  throw invalid(name, text, 'a number of bytes such as 512M');
}

const invalid = (name: string, text: string | undefined, wanted: string): TsvError =>
  new TsvError('TSV_USAGE', `invalid value for ${name}: ${JSON.stringify(text)}`, {
    details: [`it must be ${wanted}`],
  });
