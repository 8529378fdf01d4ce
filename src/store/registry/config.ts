import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { isMap, isScalar, isSeq, LineCounter, type Node, type Pair, parseDocument, type YAMLMap } from 'yaml';
import { TsvError } from '../../model/errors.ts';
import { canonicalRegistry, isRegistryHost } from './reference.ts';

/** Another server that has what a registry has. */
export interface Mirror {
  /** `https:`, or `http:` where that was written. */
  readonly protocol: 'https:' | 'http:';
  /** `mirror.example.org:5000` */
  readonly host: string;
  /** What stands before a repository's name there: `` or `dockerhub/`. */
  readonly prefix: string;
}

export interface RegistrySettings {
  readonly mirrors: readonly Mirror[];
  /** TLS without a check of who answers, or plain HTTP. */
  readonly insecure: boolean;
  /** Path of a PEM file with certificate authorities that this registry's certificate may come from. */
  readonly ca?: string;
}

/** By the registry's host, as {@link canonicalRegistry} gives it. */
export type RegistriesConfig = ReadonlyMap<string, RegistrySettings>;

const sizeLimitBytes = 1 << 20;
const usual: RegistrySettings = { mirrors: [], insecure: false };

/** What the file says of a registry; what is usual where it says nothing. */
export const settingsOf = (config: RegistriesConfig, host: string): RegistrySettings => config.get(host) ?? usual;

/** `$XDG_CONFIG_HOME/ts-vm/registries.yaml` or `~/.config/ts-vm/registries.yaml`. */
export function registriesFile(env: NodeJS.ProcessEnv): string {
  const config = env.XDG_CONFIG_HOME;
  const base = config !== undefined && isAbsolute(config) ? config : join(env.HOME ?? homedir(), '.config');
  return join(base, 'ts-vm', 'registries.yaml');
}

/** {@link registriesFile}, read; without one nothing is set. @throws TSV_REGISTRY with every mistake and its place */
export function readRegistriesConfig(env: NodeJS.ProcessEnv): RegistriesConfig {
  const file = registriesFile(env);
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return new Map();
    throw new TsvError('TSV_REGISTRY', `${file} cannot be read: ${(cause as Error).message}`, { cause });
  }
  return parseRegistriesConfig(text, file);
}

/** {@link readRegistriesConfig} without the disk; a relative `ca` is beside `file`. */
export function parseRegistriesConfig(text: string, file: string): RegistriesConfig {
  const checker = new Checker(text, file);
  const config = checker.config();
  if (checker.mistakes.length === 0) return config;
  throw new TsvError('TSV_REGISTRY', `${file} has mistakes`, {
    details: checker.mistakes,
    hint: 'docs/images.md shows what it may say',
  });
}

class Checker {
  /** `FILE:LINE:COLUMN: what is wrong` */
  readonly mistakes: string[] = [];
  private readonly lines = new LineCounter();
  private readonly text: string;
  private readonly file: string;

  constructor(text: string, file: string) {
    this.text = text;
    this.file = file;
  }

  config(): RegistriesConfig {
    const found = new Map<string, RegistrySettings>();
    if (this.text.length > sizeLimitBytes) {
      this.wrong(0, `the file is larger than ${sizeLimitBytes} bytes`);
      return found;
    }
    const document = parseDocument(this.text, { lineCounter: this.lines, prettyErrors: false, logLevel: 'error' });
    for (const { pos, message } of [...document.errors, ...document.warnings]) this.wrong(pos[0], message);
    if (this.mistakes.length > 0) return found;
    const top = this.entries(document.contents, 'the file', ['version', 'registries']);
    const version = top.get('version');
    if (!isScalar(version) || version.value !== 1) this.wrong(version, 'version: must be 1');
    const registries = top.get('registries');
    if (registries === undefined) return found;
    for (const [name, settings] of this.entries(registries, 'registries')) {
      const host = canonicalRegistry(name);
      if (!isRegistryHost(name))
        this.wrong(settings, `'${name}' is no host of a registry, such as quay.io or localhost:5000`);
      else if (found.has(host)) this.wrong(settings, `${host} is there twice`);
      else found.set(host, this.settings(settings, name));
    }
    return found;
  }

  private settings(node: Node | undefined, name: string): RegistrySettings {
    const entries = this.entries(node, name, ['mirrors', 'insecure', 'ca']);
    const mirrors = entries.get('mirrors');
    if (mirrors !== undefined && !isSeq<Node>(mirrors)) this.wrong(mirrors, 'mirrors: must be a list of addresses');
    const insecure = this.value(entries.get('insecure'), 'insecure', 'true or false', (v) => typeof v === 'boolean');
    const ca = this.value(entries.get('ca'), 'ca', 'the path of a PEM file', (v) => typeof v === 'string' && v !== '');
    return {
      mirrors: isSeq<Node>(mirrors) ? mirrors.items.flatMap((item) => this.mirror(item)) : [],
      insecure: insecure === true,
      ...(typeof ca === 'string' ? { ca: resolve(dirname(this.file), ca) } : {}),
    };
  }

  private mirror(node: Node): Mirror[] {
    const text = isScalar(node) && typeof node.value === 'string' ? node.value : '';
    const [, protocol, host = '', path = ''] =
      /^(https?:)\/\/([^/?#@]+)((?:\/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*)\/?$/.exec(text) ?? [];
    if ((protocol === 'https:' || protocol === 'http:') && isRegistryHost(host))
      return [{ protocol, host: host.toLowerCase(), prefix: path === '' ? '' : `${path.slice(1)}/` }];
    this.wrong(
      node,
      'a mirror is an address such as https://mirror.example.org:5000 or https://proxy.example.org/dockerhub',
    );
    return [];
  }

  private value(node: Node | undefined, key: string, form: string, isRight: (value: unknown) => boolean): unknown {
    if (node === undefined) return undefined;
    const value = isScalar(node) ? node.value : undefined;
    if (isRight(value)) return value;
    this.wrong(node, `${key}: must be ${form}`);
    return undefined;
  }

  private entries(node: unknown, where: string, keys?: readonly string[]): Map<string, Node> {
    const found = new Map<string, Node>();
    if (!isMap(node)) {
      this.wrong(node, `${where}: must be a mapping${keys === undefined ? '' : ` of ${keys.join(', ')}`}`);
      return found;
    }
    for (const { key, value } of (node as YAMLMap<Node, Node>).items as Pair<Node, Node>[]) {
      const name = isScalar(key) ? String(key.value) : '';
      if (keys?.includes(name) === false)
        this.wrong(key, `${where}: unknown key '${name}' (known: ${keys.join(', ')})`);
      else if (value === null || (isScalar(value) && value.value === null))
        this.wrong(key, `${name}: its value is missing`);
      else found.set(name, value);
    }
    return found;
  }

  private wrong(at: unknown, message: string): void {
    const offset = typeof at === 'number' ? at : ((at as Node | null | undefined)?.range?.[0] ?? 0);
    const { line, col } = this.lines.linePos(offset);
    this.mistakes.push(`${this.file}:${Math.max(line, 1)}:${Math.max(col, 1)}: ${message}`);
  }
}
