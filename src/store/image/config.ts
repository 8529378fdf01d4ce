import { type ContainerDefaults, type ImageConfig, isDigest, type Manifest } from '../../model/image.ts';
import { readPlatform } from './documents.ts';
import { type Fields, malformed, parseObject } from './fields.ts';

const what = "the image's config";
const mostEntries = 10_000;

/**
 * The config of an image (config.md of image-spec; Docker's is the same), checked against its manifest: as many diff
 * ids as layers.
 * @throws TSV_IMAGE
 */
export function parseConfig(bytes: Uint8Array, manifest: Pick<Manifest, 'layers'>): ImageConfig {
  const fields = parseObject(bytes, what);
  const created = fields.text('created');
  const author = fields.text('author');
  return {
    platform: readPlatform(fields, what),
    defaults: readDefaults(fields.object('config')),
    diffIds: readDiffIds(fields, manifest.layers.length),
    ...(created === undefined ? {} : { created }),
    ...(author === undefined || author === '' ? {} : { author }),
    history: (fields.objects('history', mostEntries) ?? []).map(readHistory),
  };
}

function readDiffIds(fields: Fields, layers: number): ImageConfig['diffIds'] {
  const rootfs = fields.object('rootfs');
  const type = rootfs?.text('type');
  if (type !== undefined && type !== 'layers') throw malformed(what, 'rootfs.type', 'not layers');
  const diffIds = rootfs?.texts('diff_ids', mostEntries) ?? [];
  if (diffIds.length !== layers) {
    throw malformed(what, 'rootfs.diff_ids', `${diffIds.length} of them, and the manifest has ${layers} layers`);
  }
  return diffIds.map((text, index) => {
    if (!isDigest(text)) throw malformed(what, `rootfs.diff_ids[${index}]`, 'no sha256 or sha512 digest');
    return text;
  });
}

function readHistory(entry: Fields): ImageConfig['history'][number] {
  const created = entry.text('created');
  const createdBy = entry.text('created_by');
  const comment = entry.text('comment');
  return {
    ...(created === undefined ? {} : { created }),
    ...(createdBy === undefined ? {} : { createdBy }),
    ...(comment === undefined || comment === '' ? {} : { comment }),
    emptyLayer: entry.bool('empty_layer') ?? false,
  };
}

function readDefaults(config: Fields | undefined): ContainerDefaults {
  const text = (name: string): string | undefined => config?.text(name) || undefined;
  const list = (name: string): readonly string[] | undefined => config?.texts(name, mostEntries);
  const keys = (name: string): readonly string[] => config?.object(name)?.keys() ?? [];
  const entrypoint = list('Entrypoint');
  const cmd = list('Cmd');
  const user = text('User');
  const workdir = text('WorkingDir');
  const stopSignal = text('StopSignal');
  const healthcheck = readHealthcheck(config?.object('Healthcheck'));
  return {
    ...(entrypoint === undefined ? {} : { entrypoint }),
    ...(cmd === undefined ? {} : { cmd }),
    env: list('Env') ?? [],
    ...(user === undefined ? {} : { user }),
    ...(workdir === undefined ? {} : { workdir: workdir.startsWith('/') ? workdir : `/${workdir}` }),
    ...(stopSignal === undefined ? {} : { stopSignal }),
    exposedPorts: keys('ExposedPorts'),
    volumes: keys('Volumes').filter((path) => path.startsWith('/') && !path.includes('\0')),
    labels: config?.map('Labels') ?? {},
    ...(healthcheck === undefined ? {} : { healthcheck }),
  };
}

/** Docker's: durations in nanoseconds; 0 and an empty test mean what the one who runs it thinks best. */
function readHealthcheck(check: Fields | undefined): ContainerDefaults['healthcheck'] {
  const test = check?.texts('Test', mostEntries) ?? [];
  if (check === undefined || test.length === 0) return undefined;
  const ms = (name: string): number | undefined => {
    const value = check.count(name) ?? 0;
    return value === 0 ? undefined : Math.max(1, Math.round(value / 1e6));
  };
  const everyMs = ms('Interval');
  const timeoutMs = ms('Timeout');
  const startPeriodMs = ms('StartPeriod');
  const retries = check.count('Retries');
  return {
    test,
    ...(everyMs === undefined ? {} : { everyMs }),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    ...(startPeriodMs === undefined ? {} : { startPeriodMs }),
    ...(retries === undefined || retries === 0 ? {} : { retries }),
  };
}
