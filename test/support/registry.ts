import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { type Running, start } from './cli.ts';

export interface RegistryOptions {
  /** With a certificate for 127.0.0.1 and localhost by an authority of its own: {@link TestRegistry.ca}. */
  readonly tls?: boolean;
  /** Passwords by user; without, anybody may read and write. */
  readonly users?: Readonly<Record<string, string>>;
}

/** Debian's docker-registry on 127.0.0.1, with its data in a temporary folder. It ends with this process at the latest. */
export class TestRegistry {
  readonly dir: string;
  /** `127.0.0.1:PORT` */
  readonly host: string;
  /** The authority's certificate (PEM file); only with TLS. */
  readonly ca: string;
  readonly options: RegistryOptions;
  private readonly running: Running;

  private constructor(dir: string, host: string, running: Running, options: RegistryOptions) {
    this.dir = dir;
    this.host = host;
    this.ca = join(dir, 'ca', 'ca.crt');
    this.running = running;
    this.options = options;
  }

  static async start(options: RegistryOptions = {}): Promise<TestRegistry> {
    const dir = realpathSync(mkdtempSync(join(tmpdir(), 'tsv-registry-')));
    try {
      const tls = options.tls === true ? makeCertificates(dir) : undefined;
      if (options.users !== undefined)
        writeFileSync(join(dir, 'htpasswd'), Object.entries(options.users).map(passwordLine).join(''));
      const config = {
        version: '0.1',
        log: { level: 'info', accesslog: { disabled: true } },
        storage: { filesystem: { rootdirectory: join(dir, 'data') }, delete: { enabled: true } },
        http: { addr: '127.0.0.1:0', secret: 'of this registry', ...(tls === undefined ? {} : { tls }) },
        ...(options.users === undefined ? {} : { auth: { htpasswd: { realm: 'test', path: join(dir, 'htpasswd') } } }),
      };
      writeFileSync(join(dir, 'config.yml'), JSON.stringify(config)); // JSON is YAML, too
      const argv = ['setpriv', '--pdeathsig', 'KILL', 'docker-registry', 'serve', join(dir, 'config.yml')];
      const env = { OTEL_TRACES_EXPORTER: 'none' };
      const running = start(dir, argv, { input: '', env, timeoutMs: 600_000 });
      const [, host = ''] = await running.prints(/listening on (127\.0\.0\.1:\d+)/);
      return new TestRegistry(dir, host, running, options);
    } catch (error) {
      rmSync(dir, { recursive: true, force: true });
      throw error;
    }
  }

  /** Copies an image of an OCI layout (`FOLDER:TAG`) into the registry with skopeo, as its first user. */
  push(layout: string, name: string): void {
    this.skopeo(['copy', '--all', ...this.flags('--dest'), `oci:${layout}`, `docker://${this.host}/${name}`]);
  }

  /** Copies an image of the registry into an OCI layout (`FOLDER:TAG`). */
  pull(name: string, layout: string): void {
    this.skopeo(['copy', '--all', ...this.flags('--src'), `docker://${this.host}/${name}`, `oci:${layout}`]);
  }

  /** What skopeo says about an image: its manifest, as it is. */
  rawManifest(name: string): Buffer {
    return this.skopeo(['inspect', '--raw', ...this.flags(''), `docker://${this.host}/${name}`]);
  }

  async close(): Promise<void> {
    this.running.signal('SIGKILL');
    await this.running.result.catch(() => {});
    rmSync(this.dir, { recursive: true, force: true });
  }

  private flags(side: '--dest' | '--src' | ''): string[] {
    const prefix = side === '' ? '--' : `${side}-`;
    const [user] = Object.entries(this.options.users ?? {});
    const tls =
      this.options.tls === true ? [`${prefix}cert-dir=${join(this.dir, 'ca')}`] : [`${prefix}tls-verify=false`];
    return [...tls, ...(user === undefined ? [] : [`${prefix}creds=${user.join(':')}`])];
  }

  private skopeo(args: readonly string[]): Buffer {
    return mustRun(this.dir, 'skopeo', '--insecure-policy', ...args);
  }
}

/** A registry for the test that calls it. */
export async function testRegistry(options: RegistryOptions = {}): Promise<TestRegistry> {
  const registry = await TestRegistry.start(options);
  onTestFinished(() => registry.close());
  return registry;
}

/**
 * An OCI layout made by umoci in `dir`, with an image `tag` of one layer for each entry of `layers`: texts by absolute
 * path. @returns `FOLDER:TAG`
 */
export function makeLayout(
  dir: string,
  tag: string,
  layers: readonly Readonly<Record<string, string>>[],
  config: readonly string[] = [],
): string {
  const layout = join(dir, 'layout');
  const image = `${layout}:${tag}`;
  mkdirSync(dir, { recursive: true });
  mustRun(dir, 'umoci', 'init', '--layout', layout);
  mustRun(dir, 'umoci', 'new', '--image', image);
  for (const [index, files] of layers.entries()) {
    const tree = join(dir, `tree-${index}`);
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(join(tree, path, '..'), { recursive: true });
      writeFileSync(join(tree, path), text);
    }
    mustRun(dir, 'umoci', 'insert', '--rootless', '--image', image, tree, '/');
    rmSync(tree, { recursive: true });
  }
  if (config.length > 0) mustRun(dir, 'umoci', 'config', '--image', image, ...config);
  return image;
}

/** Runs a program to its end. @throws Error with what it said */
export function mustRun(dir: string, ...[file = '', ...args]: string[]): Buffer {
  // Nothing of this user's own: no logins, no settings of registries.
  const env = {
    PATH: `${process.env.PATH}:/usr/sbin:/sbin`,
    HOME: dir,
    XDG_RUNTIME_DIR: dir,
    TMPDIR: dir,
    LC_ALL: 'C',
  };
  const { status, stdout, stderr, error } = spawnSync(file, args, { cwd: dir, env, timeout: 60_000 });
  if (status !== 0)
    throw new Error(`${file} ${args.join(' ')}: ${error?.message ?? `code ${status}`}\n${stdout}${stderr}`);
  return stdout;
}

const passwordLine = ([user, password]: [string, string]): string =>
  `${mustRun(tmpdir(), 'htpasswd', '-Bbn', user, password).toString().trim()}\n`;

/** An authority in `ca/`, and a certificate of it for this host. */
function makeCertificates(dir: string): { certificate: string; key: string } {
  const ca = join(dir, 'ca');
  mkdirSync(ca);
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
  const openssl = (...args: string[]): Buffer => mustRun(dir, 'openssl', ...args);
  openssl('req', '-x509', ...key, '-subj', '/CN=test authority', '-keyout', 'ca.key', '-out', join(ca, 'ca.crt'));
  openssl('req', ...key.slice(0, -2), '-subj', '/CN=127.0.0.1', '-keyout', 'server.key', '-out', 'server.csr');
  writeFileSync(join(dir, 'names'), 'subjectAltName=IP:127.0.0.1,DNS:localhost\n');
  const signed = ['-in', 'server.csr', '-CA', join(ca, 'ca.crt'), '-CAkey', 'ca.key', '-CAcreateserial'];
  openssl('x509', '-req', ...signed, '-days', '2', '-extfile', 'names', '-out', 'server.crt');
  return { certificate: join(dir, 'server.crt'), key: join(dir, 'server.key') };
}
