import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { Digest } from '../../src/model/image.ts';
import { layerFolder, layersFolder, type UnpackedLayer, Unpacker } from '../../src/store/layer/index.ts';
import type { UnpackLimits } from '../../src/store/layer/limits.ts';
import { mustRun } from '../../src/sys/command.ts';
import { readUserMap, withUserNamespace } from '../../src/sys/userns.ts';

/* A store of its own for a test of unpacking, and looks at what is in it. */

export const map = readUserMap();
export const unpackProgram = resolve(import.meta.dirname, '../../dist/parts/unpack.js');

export const sha256 = (bytes: Buffer): Digest => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** Output of a command that runs as root of the sandbox's ids; as root of the host where that is who made the files. */
export async function asOwner(
  argv: readonly string[],
  options: { cwd?: string; input?: string } = {},
): Promise<string> {
  const failure = { code: 'TSV_INTERNAL', message: argv.slice(0, 3).join(' ') } as const;
  if (map.rooted) return (await mustRun(argv, failure, options)).stdout;
  return withUserNamespace(map, async (prefix) => {
    const words = prefix.filter((word) => word !== '--mount'); // keeps the working directory
    return (await mustRun([...words, ...argv], failure, options)).stdout;
  });
}

export interface Unpacking {
  readonly compression?: 'none' | 'gzip' | 'zstd';
  readonly limits?: Partial<UnpackLimits>;
  /** Of what is written at once. */
  readonly pieceBytes?: number;
  /** Instead of the archive's own. */
  readonly diffId?: Digest;
}

export class TestStore {
  readonly store: string;
  readonly folder: string;

  constructor(parent = tmpdir()) {
    this.store = mkdtempSync(join(parent, 'tsv-layers-'));
    this.folder = layersFolder(this.store, map);
  }

  open(signal = new AbortController().signal, limits: Partial<UnpackLimits> = {}): Promise<Unpacker> {
    return Unpacker.open({ map, folder: this.folder, program: unpackProgram, signal, limits });
  }

  /** The whole of it: an archive, compressed as said, becomes a layer. */
  async unpack(archive: Buffer, options: Unpacking = {}): Promise<UnpackedLayer & { fs: string }> {
    const { compression = 'gzip', pieceBytes = 65536, diffId = sha256(archive) } = options;
    const blob = compress(archive, compression);
    const unpacker = await this.open(undefined, options.limits);
    try {
      const sink = await unpacker.layer({ diffId, compression });
      if (sink === undefined) throw new Error('the layer is there already');
      for (let at = 0; at < blob.length; at += pieceBytes) await sink.write(blob.subarray(at, at + pieceBytes));
      const done = await sink.finish();
      const fs = layerFolder(this.store, map, diffId);
      if (fs === undefined) throw new Error('the layer is not there');
      return { ...done, fs };
    } finally {
      await unpacker.close();
    }
  }

  /** Names in the folder of layers: nothing, where all that failed left nothing. */
  get left(): string[] {
    return readdirSync(this.folder).sort();
  }

  async remove(): Promise<void> {
    await asOwner(['rm', '-rf', '--', this.store]);
  }
}

export function compress(archive: Buffer, compression: 'none' | 'gzip' | 'zstd'): Buffer {
  if (compression === 'gzip') return gzipSync(archive, { level: 1 });
  return compression === 'none' ? archive : execFileSync('zstd', ['-q', '-c'], { input: archive, maxBuffer: 1 << 30 });
}

/** A file or folder as it is: everything that the archive says of it. */
export interface Listed {
  /** `d`, `f`, `l`, `p`, `c` … and the twelve bits of its mode, in octal. */
  readonly mode: string;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  /** Nanoseconds since 1970. */
  readonly mtime: string;
  readonly target: string;
  readonly content: string;
  readonly xattrs: Readonly<Record<string, string>>;
  /** The first name of the same file. */
  readonly same: string;
  readonly blocks: number;
}

const listing = `
import hashlib, json, os, stat, sys
top = os.fsencode(sys.argv[1]); out = {}; first = {}
def look(path, name):
    s = os.lstat(path); m = s.st_mode
    kind = 'd' if stat.S_ISDIR(m) else 'f' if stat.S_ISREG(m) else 'l' if stat.S_ISLNK(m) else 'p' if stat.S_ISFIFO(m) else 'c%d' % s.st_rdev
    text = name.decode('latin-1')
    out[text] = dict(mode='%s%o' % (kind, stat.S_IMODE(m)), uid=s.st_uid, gid=s.st_gid, mtime=str(s.st_mtime_ns),
        size=s.st_size if kind == 'f' else 0, blocks=s.st_blocks if kind == 'f' else 0,
        target=os.readlink(path).decode('latin-1') if kind == 'l' else '',
        content=hashlib.sha256(open(path, 'rb').read()).hexdigest() if kind == 'f' else '',
        xattrs={n: os.getxattr(path, n, follow_symlinks=False).hex() for n in os.listxattr(path, follow_symlinks=False)},
        same=first.setdefault(s.st_ino, text))
    if kind == 'd':
        for entry in sorted(os.listdir(path)):
            look(path + b'/' + entry, name + b'/' + entry if name else entry)
look(top, b'')
json.dump(out, sys.stdout)
`;

/** Every file below a folder by its path, one character per byte; '' is the folder itself. Ids are the owner's view. */
export async function list(folder: string): Promise<Record<string, Listed>> {
  const file = join(mkdtempSync(join(tmpdir(), 'tsv-list-')), 'list.json');
  try {
    // By a file: there may be more than a command's output may have.
    await asOwner(['sh', '-c', 'python3 -c "$1" "$2" > "$3"', 'sh', listing, folder, file]);
    return JSON.parse(readFileSync(file, 'utf8')) as Record<string, Listed>;
  } finally {
    rmSync(join(file, '..'), { recursive: true });
  }
}

/** Ids of the sandbox as {@link list} shows them. */
export const shown = (id: number): number => (map.rooted ? (map.uids[0]?.outside ?? 0) + id : id);

/** A folder with one file that nothing may touch; compare what `look` says before and after. */
export function canary(parent: string): { path: string; look(): unknown } {
  const path = join(parent, 'canary');
  mkdirSync(path);
  writeFileSync(join(path, 'file'), 'alive\n', { mode: 0o644 });
  const look = () =>
    [path, join(path, 'file')].map((name) => {
      const { ino, mode, uid, gid, nlink, mtimeNs, ctimeNs } = lstatSync(name, { bigint: true });
      const stat = [ino, mode, uid, gid, nlink, mtimeNs, ctimeNs].join(' ');
      return { name, stat, content: name === path ? readdirSync(path) : readFileSync(name, 'utf8') };
    });
  return { path, look };
}

/** An image of these layers as a folder that umoci reads: OCI image layout. */
export function imageLayout(folder: string, archives: readonly Buffer[]): void {
  mkdirSync(join(folder, 'blobs/sha256'), { recursive: true });
  const put = (bytes: Buffer, mediaType: string) => {
    const digest = sha256(bytes);
    writeFileSync(join(folder, 'blobs/sha256', digest.slice(7)), bytes);
    return { mediaType, digest, size: bytes.length };
  };
  const json = (value: unknown) => Buffer.from(JSON.stringify(value));
  const kind = 'application/vnd.oci.image';
  const layers = archives.map((archive) => put(compress(archive, 'gzip'), `${kind}.layer.v1.tar+gzip`));
  const rootfs = { type: 'layers', diff_ids: archives.map(sha256) };
  const config = put(json({ architecture: 'amd64', os: 'linux', rootfs, config: {} }), `${kind}.config.v1+json`);
  const manifest = put(json({ schemaVersion: 2, config, layers }), `${kind}.manifest.v1+json`);
  const named = { ...manifest, annotations: { 'org.opencontainers.image.ref.name': 'test' } };
  writeFileSync(join(folder, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [named] }));
  writeFileSync(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
}
