import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  createReadStream,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { createGunzip } from 'node:zlib';
import { programPath } from './docker.mjs';
import { interleave, run, time } from './measure.mjs';
import { skipped } from './oci.mjs';
import { createProject, emptyNode, tsv } from './project.mjs';

const layerCount = 8;
const layerBytes = 25e6;
const listed = 200;

/** An image of 200 MB in 8 layers out of a registry on this host, and what a stored one costs afterwards. */
export const images = {
  name: 'images',
  rounds: 5,
  async run({ dir, rounds, cleanup, skip }) {
    const programs = ['docker-registry', 'skopeo', 'umoci', 'podman'];
    const missing = programs.filter((name) => programPath(name) === undefined);
    if (missing.length > 0) return skipped(skip, `${missing.join(', ')}: not installed`);
    if (process.getuid() !== 0) return skipped(skip, "podman's overlayfs is compared as root only");
    const folder = join(dir, 'images');
    mkdirSync(folder);
    const registry = await startRegistry(folder, cleanup);
    const layout = join(folder, 'layout');
    await makeImage(layout, folder, 'large', await hostTrees());
    await makeImage(layout, folder, 'small', [[programPath('busybox')]]);
    for (const name of ['large', 'small']) {
      const to = `docker://${registry}/bench/${name}:latest`;
      await run(['skopeo', '--insecure-policy', 'copy', '--dest-tls-verify=false', `oci:${layout}:${name}`, to]);
    }
    return [
      ...(await pulls(folder, `${registry}/bench/large:latest`, rounds)),
      ...(await starts(folder, registry, cleanup)),
      ...(await lists(folder, `${registry}/bench/small:latest`)),
    ];
  },
};

async function pulls(folder, reference, rounds) {
  const subject = (name, work) => async () => {
    const scratch = join(folder, name);
    mkdirSync(scratch);
    const ms = await work(scratch);
    rmSync(scratch, { recursive: true, force: true });
    return { [name]: ms };
  };
  const ms = await interleave(
    [
      subject('tsv', (scratch) =>
        time([...tsv, 'image', 'pull', '--quiet', reference], { env: { ...process.env, TSV_STORE: scratch } }),
      ),
      subject('podman', async (scratch) => {
        const podman = ['podman', '--root', `${scratch}/root`, '--runroot', `${scratch}/run`];
        const ms = await time([
          ...podman,
          '--storage-driver=overlay',
          'pull',
          '--quiet',
          '--tls-verify=false',
          reference,
        ]);
        await run(['umount', `${scratch}/root/overlay`]).catch(() => {});
        return ms;
      }),
      subject('umoci', async (scratch) => {
        const copy = ['skopeo', '--insecure-policy', 'copy', '--quiet', '--src-tls-verify=false'];
        return (
          (await time([...copy, `docker://${reference}`, `oci:${scratch}/oci:latest`])) +
          (await time(['umoci', 'unpack', '--image', `${scratch}/oci:latest`, `${scratch}/bundle`]))
        );
      }),
    ],
    { rounds, warmups: 1 },
  );
  const row = { what: `\`tsv image pull\`, 200 MB in ${layerCount} layers`, ours: ms.tsv, target: 0.8 };
  return [
    { ...row, peer: '`podman pull`', theirs: ms.podman },
    { ...row, peer: '`skopeo copy` and `umoci unpack`', theirs: ms.umoci },
  ];
}

/** A container of an image that is there already: the same for a large one of many layers and a small one of one. */
async function starts(folder, registry, cleanup) {
  const env = { ...process.env, TSV_STORE: join(folder, 'store') };
  const project = (name) => {
    const { dir } = createProject(
      join(folder, `project-${name}`),
      `version: 1\nproject: bench-${name}\nmachines:\n  c: { image: ${registry}/bench/${name}, entrypoint: [/busybox, sleep, infinity] }\n`,
    );
    const call = (...args) => time([...tsv, ...args], { cwd: dir, env });
    cleanup(() => call('destroy', '-f'));
    return async () => {
      const up = await call('up', '--quiet');
      await call('destroy', '-f', '--quiet');
      return { [name]: up };
    };
  };
  const ms = await interleave([project('large'), project('small')], { rounds: 9, warmups: 1 });
  return [
    {
      what: '`tsv up`, a container of a stored image of 200 MB',
      ours: ms.large,
      peer: 'one of 2 MB',
      theirs: ms.small,
    },
  ];
}

async function lists(folder, reference) {
  const env = { ...process.env, TSV_STORE: join(folder, 'store-of-many') };
  await run([...tsv, 'image', 'pull', '--quiet', reference], { env });
  for (let n = 1; n < listed; n++)
    await run([...tsv, 'image', 'tag', reference, `example.org/many/image-${n}:1`], { env });
  const ms = await interleave(
    [async () => ({ node: await emptyNode() }), async () => ({ list: await time([...tsv, 'image', 'list'], { env }) })],
    { rounds: 21, warmups: 3 },
  );
  return [
    { what: `\`tsv image list\`, ${listed} names`, ours: ms.list, peer: '`node -e 0`', theirs: ms.node, target: 1.5 },
  ];
}

/** Files of this host, in groups of {@link layerBytes}: programs, libraries and texts, as images have them. */
async function hostTrees() {
  const groups = [];
  let group = [programPath('busybox')];
  let bytes = 0;
  for (const base of ['/usr/lib/x86_64-linux-gnu', '/usr/share', '/usr/lib', '/usr/bin']) {
    for (const entry of readdirSync(base, { recursive: true })) {
      const path = join(base, entry);
      const stat = lstatSync(path);
      if (!stat.isFile() || stat.size > layerBytes / 5) continue;
      group.push(path);
      bytes += stat.size;
      if (bytes < layerBytes) continue;
      groups.push(group);
      if (groups.length === layerCount) return groups;
      [group, bytes] = [[], 0];
    }
  }
  throw new Error('this host has too few files to make an image of');
}

/** An image in an OCI layout: a layer of each group of files. */
async function makeImage(layout, folder, name, groups) {
  const blobs = join(layout, 'blobs', 'sha256');
  mkdirSync(blobs, { recursive: true });
  const layers = [];
  const diffIds = [];
  for (const files of groups) {
    const list = join(folder, 'files');
    const blob = join(folder, 'blob');
    writeFileSync(list, files.map((file) => `${file.slice(1)}\n`).join(''));
    const transform = ['--transform', 's,.*/busybox$,busybox,'];
    await run(['tar', '-C', '/', '--numeric-owner', ...transform, '-czf', blob, '--files-from', list]);
    const digest = await sha256(createReadStream(blob));
    layers.push({
      mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
      digest: `sha256:${digest}`,
      size: statSync(blob).size,
    });
    diffIds.push(`sha256:${await sha256(createReadStream(blob).pipe(createGunzip()))}`);
    renameSync(blob, join(blobs, digest));
  }
  const put = (mediaType, value) => {
    const text = JSON.stringify(value);
    const digest = createHash('sha256').update(text).digest('hex');
    writeFileSync(join(blobs, digest), text);
    return { mediaType, digest: `sha256:${digest}`, size: Buffer.byteLength(text) };
  };
  const config = put('application/vnd.oci.image.config.v1+json', {
    architecture: 'amd64',
    os: 'linux',
    config: {},
    rootfs: { type: 'layers', diff_ids: diffIds },
    history: diffIds.map(() => ({ created_by: 'bench' })),
  });
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = put(mediaType, { schemaVersion: 2, mediaType, config, layers });
  const index = join(layout, 'index.json');
  const manifests = existsSync(index) ? JSON.parse(readFileSync(index, 'utf8')).manifests : [];
  const named = { ...manifest, annotations: { 'org.opencontainers.image.ref.name': name } };
  writeFileSync(join(layout, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(index, JSON.stringify({ schemaVersion: 2, manifests: [...manifests, named] }));
}

async function sha256(stream) {
  const hash = createHash('sha256');
  for await (const chunk of stream) hash.update(chunk);
  return hash.digest('hex');
}

/** docker-registry on a free port of 127.0.0.1, for this run only. @returns `127.0.0.1:PORT` */
async function startRegistry(folder, cleanup) {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const address = `127.0.0.1:${probe.address().port}`;
  await new Promise((resolve) => probe.close(resolve));
  const config = join(folder, 'registry.yml');
  const root = join(folder, 'registry');
  writeFileSync(
    config,
    `version: 0.1\nlog: { level: info }\nstorage: { filesystem: { rootdirectory: ${root} } }\nhttp: { addr: "${address}" }\n`,
  );
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'docker-registry', 'serve', config], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const gone = once(child, 'exit');
  cleanup(async () => {
    child.kill('SIGKILL');
    await gone;
  });
  for await (const line of createInterface({ input: child.stderr })) {
    if (!line.includes('listening on')) continue;
    child.stderr.resume();
    return address;
  }
  throw new Error('docker-registry ended at once');
}
