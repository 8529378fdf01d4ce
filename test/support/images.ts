import { spawn } from 'node:child_process';
import { createHash, type Hash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  createReadStream,
  createWriteStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { storeDir } from '../../src/state/paths.ts';
import { readHostApt } from '../../src/store/box/host-apt.ts';
import { ensureBox, removeTree } from '../../src/store/box/index.ts';
import { withWorkshop, workDir } from '../../src/store/box/workshop.ts';
import { readUserMap } from '../../src/sys/userns.ts';
import { packageDir } from './cli.ts';
import { mustRun } from './registry.ts';

/*
 * Images as people use them: servers of Debian's packages in the way of the official images, with entrypoints that give
 * their data away and drop root. They are built once, on the box debian-12, in the way that boxes are (root of the sandbox's
 * ids, the host's apt), and kept as OCI layouts beside the boxes of the store.
 */

interface ImageRecipe {
  readonly packages: readonly string[];
  /** Runs in the image, as root, after the packages; /entrypoint is the script of test/fixtures/images. */
  readonly setup: string;
  /** config.md, `config`, with Docker's Healthcheck. */
  readonly config: Readonly<Record<string, unknown>>;
}

const path = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export const imageRecipes = {
  nginx: {
    packages: ['nginx-light'],
    setup: `
      install -m 0755 /entrypoint /docker-entrypoint.sh
      ln -sf /dev/stdout /var/log/nginx/access.log
      ln -sf /dev/stderr /var/log/nginx/error.log`,
    config: {
      Env: [`PATH=${path}`, 'NGINX_VERSION=1.22'],
      Entrypoint: ['/docker-entrypoint.sh'],
      Cmd: ['nginx', '-g', 'daemon off;'],
      ExposedPorts: { '80/tcp': {} },
      StopSignal: 'SIGQUIT',
      Labels: { maintainer: 'tests', 'org.opencontainers.image.version': '1.22' },
    },
  },
  redis: {
    packages: ['redis-server'],
    setup: `
      install -m 0755 /entrypoint /usr/local/bin/docker-entrypoint.sh
      mkdir /data && chown redis:redis /data`,
    config: {
      Env: [`PATH=${path}`],
      Entrypoint: ['docker-entrypoint.sh'],
      Cmd: ['redis-server', '--bind', '0.0.0.0', '--protected-mode', 'no'],
      ExposedPorts: { '6379/tcp': {} },
      Volumes: { '/data': {} },
      WorkingDir: '/data',
    },
  },
  postgres: {
    packages: ['postgresql-15', 'gosu'],
    setup: `
      install -m 0755 /entrypoint /usr/local/bin/docker-entrypoint.sh
      sed -i "s/^#listen_addresses.*/listen_addresses = '*'/" /usr/share/postgresql/15/postgresql.conf.sample
      rm -rf /var/lib/postgresql/data
      install -d -o postgres -g postgres -m 1777 /var/lib/postgresql/data`,
    config: {
      Env: [
        `PATH=${path}:/usr/lib/postgresql/15/bin`,
        'LANG=C.UTF-8',
        'PG_MAJOR=15',
        'PGDATA=/var/lib/postgresql/data',
      ],
      Entrypoint: ['docker-entrypoint.sh'],
      Cmd: ['postgres'],
      ExposedPorts: { '5432/tcp': {} },
      Volumes: { '/var/lib/postgresql/data': {} },
      StopSignal: 'SIGINT',
      Healthcheck: { Test: ['CMD-SHELL', 'pg_isready -q -h 127.0.0.1'], Interval: 1e9, Timeout: 5e9, Retries: 60 },
    },
  },
} as const satisfies Record<string, ImageRecipe>;

export type TestImage = keyof typeof imageRecipes;

const install = `
set -eu
base=$1 work=$2 entrypoint=$3 setup=$4
shift 4
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay -o "lowerdir=$base,upperdir=$work/upper,workdir=$work/work,userxattr" overlay "$work/root"
root=$work/root
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
  : > "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s /proc/self/fd "$root/dev/fd"
mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
printf '#!/bin/sh\\nexit 101\\n' > "$root/usr/sbin/policy-rc.d"
chmod 0755 "$root/usr/sbin/policy-rc.d"
mkdir -p "$root/etc/postgresql-common"
echo 'create_main_cluster = false' > "$root/etc/postgresql-common/createcluster.conf"
chroot "$root" apt-get -q update
chroot "$root" apt-get -q -y --no-install-recommends -o Dpkg::Options::=--force-confold install "$@"
cp "$entrypoint" "$root/entrypoint"
chroot "$root" sh -euc "$setup"
rm -rf "$root/entrypoint" "$root/usr/sbin/policy-rc.d" "$root/var/lib/apt/lists" "$root/var/cache/apt"
umount "$root/etc/resolv.conf"
umount -R "$root/dev" "$root/proc"
umount "$root"
`;
/** Without what an upper layer says of a lower one: nothing that these images need is deleted. */
const pack = 'cd "$1" && find . ! -type c -print0 | sort -z | tar --null --no-recursion --numeric-owner -T - -cf "$2"';

/** The image in an OCI layout, `FOLDER:TAG` as skopeo and umoci write it; built when this store does not have it. */
export async function testImage(name: TestImage): Promise<string> {
  const map = readUserMap();
  const store = storeDir(process.env);
  const signal = new AbortController().signal;
  const progress = () => {};
  const box = await ensureBox({
    boxesDir: join(packageDir, 'boxes'),
    store,
    name: 'debian-12',
    kind: 'container',
    map,
    signal,
    progress,
  });
  const recipe: ImageRecipe = imageRecipes[name];
  const script = join(packageDir, 'test', 'fixtures', 'images', `${name}-entrypoint.sh`);
  const key = createHash('sha256')
    .update(JSON.stringify([box.digest, recipe, install, pack, readFileSync(script, 'utf8')]))
    .digest('hex')
    .slice(0, 16);
  const folder = join(store, 'test-images');
  const layout = join(folder, `${name}-${key}`);
  if (existsSync(layout)) return `${layout}:latest`;
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  // What the workshop shows has to hold both, the box and what is made of it.
  const rootfs = box.layers?.[0] ?? '';
  const boxDir = dirname(dirname(rootfs));
  const begun = `.test-image-${name}-`;
  // Of another recipe, or of a build that was killed.
  for (const old of readdirSync(folder)) if (old.startsWith(`${name}-`)) await removeTree(join(folder, old), map);
  for (const old of readdirSync(boxDir)) if (old.startsWith(begun)) await removeTree(join(boxDir, old), map);
  const work = mkdtempSync(join(boxDir, begun));
  chmodSync(work, 0o777); // the sandbox's root works in here
  const inside = (file: string) => join(workDir, relative(boxDir, file));
  const base = join(folder, `base-${box.digest.slice(0, 16)}`);
  const apt = await readHostApt('bookworm');
  await withWorkshop({ map, dir: boxDir, logFile: join(folder, `${name}.log`), signal }, async (workshop) => {
    const entrypoint = join(work, 'entrypoint');
    writeFileSync(entrypoint, readFileSync(script), { mode: 0o644 });
    const run = (failure: string, ...argv: readonly string[]) => workshop.run({ argv, env: apt.buildEnv, failure });
    const words = [inside(rootfs), inside(work), inside(entrypoint), recipe.setup, ...recipe.packages];
    await run(`the image ${name} could not be built`, 'sh', '-c', install, 'sh', ...words);
    const packed = (tree: string, tar: string) =>
      run(`${tree} could not be packed`, 'sh', '-c', pack, 'sh', tree, inside(join(work, tar)));
    await packed(inside(join(work, 'upper')), 'packages.tar');
    if (!existsSync(base)) await packed(inside(rootfs), 'base.tar');
  });
  if (!existsSync(base)) {
    mkdirSync(join(work, 'base'));
    await compress(join(work, 'base.tar'), join(work, 'base'));
    renameSync(join(work, 'base'), base);
  }
  mkdirSync(join(work, 'packages'));
  await compress(join(work, 'packages.tar'), join(work, 'packages'));
  writeLayout(join(work, 'layout'), [base, join(work, 'packages')], recipe.config);
  renameSync(join(work, 'layout'), layout);
  await removeTree(work, map);
  return `${layout}:latest`;
}

/** An image of busybox, with a shell or without: `FOLDER:TAG` in `dir`, made by umoci. */
export function busyboxImage(dir: string, shell: boolean): string {
  const image = `${join(dir, 'layout')}:latest`;
  const tree = join(dir, 'tree');
  mkdirSync(join(tree, 'bin'), { recursive: true });
  copyFileSync('/bin/busybox', join(tree, 'bin/busybox'));
  for (const applet of shell ? ['sh', 'cat', 'echo', 'sleep', 'rm', 'id'] : [])
    symlinkSync('busybox', join(tree, 'bin', applet));
  if (shell) {
    mkdirSync(join(tree, 'tmp'));
    mkdirSync(join(tree, 'etc'));
    // A login shell that is not in the image, as in many that were made from a larger one.
    writeFileSync(join(tree, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/bash\n');
  }
  mustRun(dir, 'umoci', 'init', '--layout', join(dir, 'layout'));
  mustRun(dir, 'umoci', 'new', '--image', image);
  mustRun(dir, 'umoci', 'insert', '--rootless', '--image', image, tree, '/');
  const run = ['/bin/busybox', 'sleep', '100000'].flatMap((word) => ['--config.cmd', word]);
  mustRun(dir, 'umoci', 'config', '--image', image, '--architecture', 'amd64', '--os', 'linux', ...run);
  return image;
}

/** A layer of an image: `blob`, and what is known of it. */
interface PackedLayer {
  readonly diffId: string;
  readonly digest: string;
  readonly size: number;
}

/** Puts the layer of an archive into a folder: `blob` and `layer.json`. */
async function compress(tar: string, folder: string): Promise<void> {
  const [plain, packed] = [createHash('sha256'), createHash('sha256')];
  const gzip = spawn('gzip', ['-1', '-n', '-c', tar], { stdio: ['ignore', 'pipe', 'inherit'] });
  const hashing = (hash: Hash) =>
    new Transform({
      transform: (chunk: Buffer, _, done) => {
        hash.update(chunk);
        done(null, chunk);
      },
    });
  const blob = join(folder, 'blob');
  await Promise.all([
    pipeline(gzip.stdout, hashing(packed), createWriteStream(blob)),
    pipeline(createReadStream(tar), plain),
  ]);
  const layer: PackedLayer = {
    diffId: `sha256:${plain.digest('hex')}`,
    digest: packed.digest('hex'),
    size: statSync(blob).size,
  };
  writeFileSync(join(folder, 'layer.json'), JSON.stringify(layer));
}

/** image-layout.md, with one image named `latest`. */
function writeLayout(layout: string, folders: readonly string[], config: ImageRecipe['config']): void {
  const blobs = join(layout, 'blobs', 'sha256');
  mkdirSync(blobs, { recursive: true });
  const put = (mediaType: string, value: unknown) => {
    const bytes = Buffer.from(JSON.stringify(value));
    const hex = createHash('sha256').update(bytes).digest('hex');
    writeFileSync(join(blobs, hex), bytes);
    return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
  };
  const layers = folders.map((folder) => {
    const layer = JSON.parse(readFileSync(join(folder, 'layer.json'), 'utf8')) as PackedLayer;
    copyFileSync(join(folder, 'blob'), join(blobs, layer.digest));
    return layer;
  });
  const type = 'application/vnd.oci.image';
  const manifest = put(`${type}.manifest.v1+json`, {
    schemaVersion: 2,
    mediaType: `${type}.manifest.v1+json`,
    config: put(`${type}.config.v1+json`, {
      created: '2026-01-01T00:00:00Z',
      architecture: 'amd64',
      os: 'linux',
      config,
      rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
      history: layers.map(() => ({ created: '2026-01-01T00:00:00Z', created_by: 'test/support/images.ts' })),
    }),
    layers: layers.map(({ digest, size }) => ({
      mediaType: `${type}.layer.v1.tar+gzip`,
      digest: `sha256:${digest}`,
      size,
    })),
  });
  writeFileSync(join(layout, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  const named = { ...manifest, annotations: { 'org.opencontainers.image.ref.name': 'latest' } };
  writeFileSync(join(layout, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [named] }));
}
