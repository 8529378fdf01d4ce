import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer, request, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, onTestFinished } from 'vitest';
import { storeDir } from '../../src/state/paths.ts';
import { removeTree } from '../../src/store/remove-tree.ts';
import { readUserMap } from '../../src/sys/userns.ts';
import { type Result, type Running, type RunOptions, startTsv, tsv } from './cli.ts';
import { read } from './host-processes.ts';
import { until } from './until.ts';

/** A store, a home and a folder of a test's own, used through the built command. */
export class ImageStore {
  readonly dir = realpathSync(mkdtempSync(join(tmpdir(), 'tsv-image-store-')));
  readonly store = join(this.dir, 'store');
  readonly env = {
    TSV_STORE: this.store,
    HOME: this.dir,
    XDG_CONFIG_HOME: join(this.dir, 'config'),
    DOCKER_CONFIG: join(this.dir, 'docker'),
  };

  tsv(args: string | readonly string[], options: RunOptions = {}): Promise<Result> {
    return tsv(this.dir, words(args), this.with(options));
  }

  start(args: string | readonly string[], options: RunOptions = {}): Running {
    return startTsv(this.dir, words(args), this.with(options));
  }

  /** Fails the test when the exit code is not 0. @returns what was printed to standard output */
  async ok(args: string | readonly string[], options: RunOptions = {}): Promise<string> {
    const result = await this.tsv(args, options);
    expect(result.code, `tsv ${words(args).join(' ')}\n${result.stdout}${result.stderr}`).toBe(0);
    return result.stdout;
  }

  /** Fails the test when it succeeds. @returns what was printed to standard error */
  async fails(args: string | readonly string[], code: string, options: RunOptions = {}): Promise<string> {
    const result = await this.tsv(args, options);
    expect(result.code, `tsv ${words(args).join(' ')}\n${result.stdout}${result.stderr}`).toBe(1);
    expect(result.stderr.match(/\[TSV_[A-Z_]+\]/g), result.stderr).toEqual([`[${code}]`]);
    expect(result.stderr, 'a stack trace').not.toMatch(/\n\s+at .*:\d+:\d+\)?$/m);
    return result.stderr;
  }

  async names(): Promise<string[]> {
    const images = JSON.parse(await this.ok('image list --json')) as { reference?: string }[];
    return images.map(({ reference = '<none>' }) => reference);
  }

  /** What is in the store that no complete image is made of. */
  leftovers(): string[] {
    const images = join(this.store, 'images');
    if (!existsSync(images)) return [];
    return readdirSync(images, { recursive: false, encoding: 'utf8' })
      .flatMap((name) =>
        name === 'layers'
          ? readdirSync(join(images, name)).flatMap((map) => readdirSync(join(images, name, map)))
          : [name],
      )
      .filter((name) => name.startsWith('.load.') || name.startsWith('.new.') || name.endsWith('.tmp'));
  }

  /** Whatever became of a command, nothing of it goes on. */
  async remove(): Promise<void> {
    await until('no process of this store is left', () => processesWith(`TSV_STORE=${this.store}`).length === 0);
    await removeTree(this.dir, readUserMap());
    rmSync(this.dir, { recursive: true, force: true });
  }

  private with(options: RunOptions): RunOptions {
    return { ...options, env: { ...this.env, ...options.env } };
  }
}

/** Pids of the processes with this in their environment. */
const processesWith = (variable: string): string[] =>
  readdirSync('/proc').filter(
    (pid) => /^\d+$/.test(pid) && Number(pid) !== process.pid && read(`/proc/${pid}/environ`).includes(`${variable}\0`),
  );

/** A store for the test that calls it. */
export function imageStore(): ImageStore {
  const made = new ImageStore();
  onTestFinished(() => made.remove());
  return made;
}

/** The same with the boxes of everybody's: for what machines keep in the store. */
export function boxStore(): ImageStore {
  const made = imageStore();
  mkdirSync(made.store, { recursive: true });
  symlinkSync(join(storeDir(process.env), 'boxes'), join(made.store, 'boxes'));
  return made;
}

const words = (args: string | readonly string[]): readonly string[] =>
  typeof args === 'string' ? args.split(' ') : args;

/** What the proxy does with an answer to GET of a blob: passes it on, stops in the middle, or changes a byte. */
export type Meddling = { readonly holdAfter: number } | { readonly flipAt: number } | undefined;

/** Stands before a registry and meddles with the blobs that it gives. */
export class MeddlingProxy {
  readonly host: string;
  /** Asked for each GET of a blob; `size` is what the registry says, `start` where the wanted range begins. */
  meddle: (blob: { digest: string; size: number; start: number }) => Meddling = () => undefined;
  readonly requests: { digest: string; start: number }[] = [];
  private heldNow: () => void = () => {};
  private readonly releases: (() => void)[] = [];

  private constructor(server: Server) {
    this.host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  static async start(upstream: string): Promise<MeddlingProxy> {
    const [hostname = '', port = ''] = upstream.split(':');
    const server = createServer((incoming, outgoing) => {
      const options = { hostname, port, path: incoming.url, method: incoming.method, headers: incoming.headers };
      const passed = request(options, (answer) => {
        outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
        const digest = /\/blobs\/(sha256:[0-9a-f]+)$/.exec(incoming.url ?? '')?.[1];
        const start = Number(/bytes (\d+)-/.exec(answer.headers['content-range'] ?? '')?.[1] ?? 0);
        const size = Number(answer.headers['content-length'] ?? 0);
        const asked = digest !== undefined && incoming.method === 'GET';
        if (asked) proxy.requests.push({ digest, start });
        const meddling = asked ? proxy.meddle({ digest, size, start }) : undefined;
        let sent = 0;
        answer.on('data', (chunk: Buffer) => {
          if (meddling !== undefined && 'flipAt' in meddling) {
            const at = meddling.flipAt - sent;
            if (at >= 0 && at < chunk.length) chunk[at] = (chunk[at] ?? 0) ^ 1;
          }
          if (meddling !== undefined && 'holdAfter' in meddling && sent + chunk.length > meddling.holdAfter) {
            outgoing.write(chunk.subarray(0, Math.max(0, meddling.holdAfter - sent)));
            answer.removeAllListeners('data').removeAllListeners('end').pause();
            proxy.releases.push(() => {
              outgoing.write(chunk.subarray(Math.max(0, meddling.holdAfter - sent)));
              answer.pipe(outgoing);
            });
            proxy.heldNow();
            return;
          }
          sent += chunk.length;
          outgoing.write(chunk);
        });
        answer.on('end', () => outgoing.end());
        outgoing.on('close', () => answer.destroy());
      });
      passed.on('error', () => outgoing.destroy());
      incoming.pipe(passed);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const proxy = new MeddlingProxy(server);
    onTestFinished(() => {
      server.closeAllConnections();
      server.close();
    });
    return proxy;
  }

  /** Lets go on what is held. */
  release(): void {
    for (const release of this.releases.splice(0)) release();
  }

  /** Resolves when the next answer has come to where it is held. */
  held(): Promise<void> {
    return new Promise((resolve) => {
      this.heldNow = resolve;
    });
  }
}

export interface LayoutParts {
  readonly layer?: Buffer;
  readonly layerType?: string;
  readonly diffId?: string;
  /** Changes the documents before they are written. */
  readonly manifest?: (manifest: Record<string, unknown>) => unknown;
  readonly config?: (config: Record<string, unknown>) => unknown;
  /** What lies under the layer's digest. */
  readonly stored?: Buffer;
  readonly manifestType?: string;
}

export const sha256 = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** An image layout made by hand, right or wrong in one point, with an image called `name`. */
export function writeLayout(folder: string, name: string, tar: Buffer, parts: LayoutParts = {}): string {
  const blobs = join(folder, 'blobs', 'sha256');
  mkdirSync(blobs, { recursive: true });
  const put = (bytes: Buffer, stored = bytes): { digest: string; size: number } => {
    writeFileSync(join(blobs, sha256(bytes).slice(7)), stored);
    return { digest: sha256(bytes), size: bytes.length };
  };
  const same = (value: Record<string, unknown>): unknown => value;
  const oci = 'application/vnd.oci.image';
  const layer = parts.layer ?? gzipSync(tar);
  const config = {
    architecture: 'amd64',
    os: 'linux',
    config: { Cmd: ['/bin/sh'] },
    rootfs: { type: 'layers', diff_ids: [parts.diffId ?? sha256(tar)] },
  };
  const manifestType = parts.manifestType ?? `${oci}.manifest.v1+json`;
  const manifest = {
    schemaVersion: 2,
    mediaType: manifestType,
    config: { mediaType: `${oci}.config.v1+json`, ...put(Buffer.from(JSON.stringify((parts.config ?? same)(config)))) },
    layers: [{ mediaType: parts.layerType ?? `${oci}.layer.v1.tar+gzip`, ...put(layer, parts.stored) }],
  };
  const descriptor = put(Buffer.from(JSON.stringify((parts.manifest ?? same)(manifest))));
  const annotations = { 'org.opencontainers.image.ref.name': name };
  writeFileSync(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(
    join(folder, 'index.json'),
    JSON.stringify({ schemaVersion: 2, manifests: [{ mediaType: manifestType, ...descriptor, annotations }] }),
  );
  return folder;
}

/** File names of the blobs of a store. */
export const blobs = ({ store }: ImageStore): string[] => readdirSync(join(store, 'images', 'blobs', 'sha256'));

/** File names of its unpacked layers. */
export const layers = ({ store }: ImageStore): string[] =>
  readdirSync(join(store, 'images', 'layers')).flatMap((map) =>
    readdirSync(join(store, 'images', 'layers', map)).filter((name) => !name.startsWith('.')),
  );

export interface Details {
  readonly digest: string;
  readonly names: readonly string[];
  readonly platform: string;
  readonly config: { readonly cmd: readonly string[]; readonly env: readonly string[]; readonly labels: object };
  readonly layers: readonly { readonly digest: string }[];
}

export async function inspect(store: ImageStore, name: string): Promise<Details> {
  const [details] = JSON.parse(await store.ok(['image', 'inspect', name])) as Details[];
  if (details === undefined) throw new Error('inspect printed nothing');
  return details;
}
