import { createHash, randomBytes } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { Descriptor, Digest } from '../../src/model/image.ts';
import { digestOf } from '../../src/store/content/digest.ts';
import type { RemoteFile } from '../../src/store/download/remote.ts';
import { loginTo, Registry, type RegistryOptions } from '../../src/store/registry/client.ts';
import { logout } from '../../src/store/registry/login.ts';
import { parseReference } from '../../src/store/registry/reference.ts';
import { hostileServer } from '../support/hostile-server.ts';
import { makeLayout, mustRun, TestRegistry, testRegistry } from '../support/registry.ts';

const signal = new AbortController().signal;

let dir: string;
let image: string;
beforeAll(() => {
  dir = realpathSync(mkdtempSync(join(tmpdir(), 'tsv-images-')));
  image = makeLayout(dir, 'one', [
    { '/etc/a': 'a\n', '/bin/b': 'b\n' },
    { '/large': randomBytes(200_000).toString('hex') },
  ]);
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** A user's home, empty but for what is given. */
function home(registries?: string): Record<string, string> {
  const folder = mkdtempSync(join(tmpdir(), 'tsv-home-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  if (registries !== undefined) {
    mkdirSync(join(folder, '.config/ts-vm'), { recursive: true });
    writeFileSync(join(folder, '.config/ts-vm/registries.yaml'), registries);
  }
  return { HOME: folder, PATH: process.env.PATH ?? '', XDG_RUNTIME_DIR: folder };
}

function client(env: Record<string, string>, more: Partial<RegistryOptions> = {}): Registry {
  const registry = new Registry({ env, signal, backoffMs: 1, ...more });
  onTestFinished(() => registry.close());
  return registry;
}

async function read(file: RemoteFile, offset = 0, end?: number): Promise<{ offset: number; bytes: Buffer }> {
  const { body, offset: start } = await file.open({ offset, signal, ...(end === undefined ? {} : { end }) });
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return { offset: start, bytes: Buffer.concat(chunks) };
}

interface Manifest {
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
}

const parsed = (bytes: Buffer): Manifest => JSON.parse(bytes.toString('utf8')) as Manifest;
const blobFile = (digest: Digest): string => join(dir, 'layout/blobs', digest.replace(':', '/'));

describe('a registry on this host, without TLS', () => {
  let registry: TestRegistry;
  beforeAll(async () => {
    registry = await TestRegistry.start();
    for (const tag of ['1.0', '1.1', '1.27', 'latest']) registry.push(image, `team/app:${tag}`);
  });
  afterAll(() => registry.close());
  const reference = (rest: string) => parseReference(`${registry.host}/${rest}`);

  test('gives a manifest by its tag and by its digest, byte for byte', async () => {
    const images = client(home());
    const byTag = await images.manifest(reference('team/app:1.0'));
    expect(byTag.bytes).toEqual(registry.rawManifest('team/app:1.0'));
    expect(byTag.descriptor).toEqual({
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      digest: digestOf(byTag.bytes),
      size: byTag.bytes.length,
    });
    const byDigest = await images.manifest(reference(`team/app@${byTag.descriptor.digest}`));
    expect(byDigest).toEqual(byTag);
    // the tag is another's: the digest decides
    expect(await images.manifest(reference(`team/app:nothing@${byTag.descriptor.digest}`))).toEqual(byTag);
  });

  test('gives blobs, whole and from the middle', async () => {
    const images = client(home());
    const { bytes } = await images.manifest(reference('team/app:1.0'));
    const { config, layers } = parsed(bytes);
    expect(layers).toHaveLength(2);
    for (const blob of [config, ...layers]) {
      const whole = await read(images.blob(reference('team/app:1.0'), blob));
      expect(`sha256:${createHash('sha256').update(whole.bytes).digest('hex')}`).toBe(blob.digest);
      expect(await read(images.blob(reference('team/app'), blob), 10)).toEqual({
        offset: 10,
        bytes: whole.bytes.subarray(10),
      });
      expect((await read(images.blob(reference('team/app'), blob), 10, 20)).bytes).toEqual(
        whole.bytes.subarray(10, 20),
      );
    }
  });

  test('that has no such tag is asked for those it has', async () => {
    await expect(client(home()).manifest(reference('team/app:1.2'))).rejects.toMatchObject({
      code: 'TSV_IMAGE_UNKNOWN',
      message: `${registry.host}/team/app has no tag 1.2`,
      hint: `near it: 1.27, 1.1, 1.0, latest; all tags: tsv image tags ${registry.host}/team/app`,
    });
  });

  test('that has no such repository, digest or blob says so', async () => {
    const images = client(home());
    const digest = digestOf(Buffer.from('nothing'));
    await expect(images.manifest(reference('team/ap:1.0'))).rejects.toMatchObject({
      code: 'TSV_IMAGE_UNKNOWN',
      message: `${registry.host} has no repository team/ap`,
    });
    await expect(images.manifest(reference(`team/app@${digest}`))).rejects.toMatchObject({
      code: 'TSV_IMAGE_UNKNOWN',
      message: `${registry.host}/team/app has nothing with the digest ${digest}`,
    });
    const blob = images.blob(reference('team/app'), { mediaType: 'x', digest, size: 7 });
    await expect(read(blob)).rejects.toMatchObject({ code: 'TSV_IMAGE_UNKNOWN' });
  });

  test('lists its tags', async () => {
    const tags: string[] = [];
    for await (const tag of client(home()).tags(reference('team/app'))) tags.push(tag);
    expect(tags.sort()).toEqual(['1.0', '1.1', '1.27', 'latest']);
  });

  describe('takes what is pushed', () => {
    const push = async (images: Registry, name: string, mountFrom?: string): Promise<readonly string[]> => {
      const to = reference(name);
      const source = reference('team/app:1.0');
      const { bytes, descriptor } = await client(home()).manifest(source);
      const { config, layers } = parsed(bytes);
      const done: string[] = [];
      for (const blob of [config, ...layers]) {
        const content = readFileSync(blobFile(blob.digest));
        let last = 0;
        done.push(
          await images.uploadBlob(to, blob, {
            signal,
            async *open({ start, end }) {
              for (let at = start; at < end; at += 50_000) yield content.subarray(at, Math.min(end, at + 50_000));
            },
            progress: (bytes) => {
              last = bytes;
            },
            ...(mountFrom === undefined ? {} : { mountFrom }),
          }),
        );
        expect(last).toBe(done.at(-1) === 'uploaded' ? blob.size : 0);
        expect(await images.blobExists(to, blob)).toBe(true);
      }
      expect(await images.putManifest(to, { mediaType: descriptor.mediaType, bytes })).toEqual(descriptor);
      return done;
    };

    const pulledBySkopeo = (name: string): Buffer => {
      const to = join(mkdtempSync(join(dir, 'pulled-')), 'layout');
      registry.pull(name, `${to}:x`);
      mustRun(dir, 'umoci', 'stat', '--image', `${to}:x`);
      return registry.rawManifest(name);
    };

    test('in one piece, and another program finds it whole', async () => {
      expect(await push(client(home()), 'pushed/whole:1')).toEqual(['uploaded', 'uploaded', 'uploaded']);
      expect(pulledBySkopeo('pushed/whole:1')).toEqual(registry.rawManifest('team/app:1.0'));
      expect(await push(client(home()), 'pushed/whole:2')).toEqual(['already there', 'already there', 'already there']);
    });

    test('in pieces', async () => {
      expect(await push(client(home(), { chunkBytes: 60_000 }), 'pushed/pieces:1')).toEqual([
        'uploaded',
        'uploaded',
        'uploaded',
      ]);
      pulledBySkopeo('pushed/pieces:1');
    });

    test('without sending what another repository of it has', async () => {
      expect(await push(client(home()), 'pushed/mounted:1', 'team/app')).toEqual(['mounted', 'mounted', 'mounted']);
      expect(await push(client(home()), 'pushed/unmounted:1', 'team/nothing')).toEqual([
        'uploaded',
        'uploaded',
        'uploaded',
      ]);
      pulledBySkopeo('pushed/mounted:1');
    });

    test('an index of manifests that are there, by tag and by digest', async () => {
      const images = client(home());
      const { descriptor } = await images.manifest(reference('team/app:1.0'));
      const mediaType = 'application/vnd.oci.image.index.v1+json';
      const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, manifests: [descriptor] }));
      const pushed = await images.putManifest(reference('team/app:index'), { mediaType, bytes });
      expect(await images.manifest(reference('team/app:index'))).toEqual({ descriptor: pushed, bytes });
      expect(await images.manifest(reference(`team/app@${pushed.digest}`))).toEqual({ descriptor: pushed, bytes });
    });

    test('and refuses a manifest of blobs that it does not have', async () => {
      const { bytes, descriptor } = await client(home()).manifest(reference('team/app:1.0'));
      const pushed = client(home()).putManifest(reference('pushed/nothing:1'), {
        mediaType: descriptor.mediaType,
        bytes,
      });
      await expect(pushed).rejects.toMatchObject({
        code: expect.stringMatching(/^TSV_(REGISTRY|IMAGE_UNKNOWN)$/),
        details: expect.arrayContaining([expect.stringContaining('MANIFEST_BLOB_UNKNOWN')]),
      });
    });
  });

  test('stands in for another one as its mirror; one that does not answer is passed over, and it is said', async () => {
    const notices: string[] = [];
    const nobody = await closedPort();
    const through = (mirrors: string[], origin: string) =>
      client(home(`version: 1\nregistries:\n  ${origin}:\n    mirrors: ${JSON.stringify(mirrors)}\n`), {
        notice: (text) => notices.push(text),
      });
    const { bytes } = await client(home()).manifest(reference('team/app:1.0'));
    const [blob] = parsed(bytes).layers;

    const mirrored = through([`http://${registry.host}/team`], 'images.invalid');
    const elsewhere = parseReference('images.invalid/app:1.0');
    expect((await mirrored.manifest(elsewhere)).bytes).toEqual(bytes);
    expect((await read(mirrored.blob(elsewhere, blob as Descriptor))).bytes).toHaveLength(blob?.size ?? 0);
    expect(notices).toEqual([]);

    const fallen = through([`http://${nobody}`], registry.host);
    expect((await fallen.manifest(reference('team/app:1.0'))).bytes).toEqual(bytes);
    expect((await read(fallen.blob(reference('team/app'), blob as Descriptor))).bytes).toHaveLength(blob?.size ?? 0);
    expect(notices).toEqual([
      `mirror ${nobody}: ${nobody} could not be reached (${nobody} refuses connections); asking ${registry.host}`,
    ]);
  });
});

describe('a registry with TLS', () => {
  let registry: TestRegistry;
  beforeAll(async () => {
    registry = await TestRegistry.start({ tls: true });
    registry.push(image, 'app:1');
  });
  afterAll(() => registry.close());
  const manifest = (env: Record<string, string>) => client(env).manifest(parseReference(`${registry.host}/app:1`));
  const settings = (text: string) => `version: 1\nregistries:\n  ${registry.host}: { ${text} }\n`;

  test('is used when its authority is known', async () => {
    const expected = registry.rawManifest('app:1');
    expect((await manifest(home(settings(`ca: ${registry.ca}`)))).bytes).toEqual(expected);
    expect((await manifest({ ...home(), NODE_EXTRA_CA_CERTS: registry.ca })).bytes).toEqual(expected);
    expect((await manifest({ ...home(), SSL_CERT_FILE: registry.ca })).bytes).toEqual(expected);
  });

  test('is not used when its authority is not known, neither with TLS nor without', async () => {
    await expect(manifest(home())).rejects.toMatchObject({
      code: 'TSV_REGISTRY',
      details: [expect.stringMatching(/certificate/)],
      hint: expect.stringMatching(/registries\.yaml, ca: FILE for 127\.0\.0\.1:/),
    });
  });

  test('is used by whoever says that it need not prove anything', async () => {
    expect((await manifest(home(settings('insecure: true')))).bytes).toEqual(registry.rawManifest('app:1'));
  });

  test('is not used when another authority is known', async () => {
    const other = await testRegistry({ tls: true });
    await expect(manifest(home(settings(`ca: ${other.ca}`)))).rejects.toMatchObject({ code: 'TSV_REGISTRY' });
  });

  test('has to prove who it is also to whoever comes from one that need not', async () => {
    const origin = `https://${registry.host}`;
    const other = await hostileServer((_, response) => response.writeHead(307, { location: `${origin}/v2/` }).end());
    const env = home(`version: 1\nregistries:\n  ${other.host}: { insecure: true }\n`);
    await expect(client(env).manifest(parseReference(`${other.host}/app:1`))).rejects.toMatchObject({
      code: 'TSV_REGISTRY',
      details: [expect.stringMatching(/certificate/)],
    });
    expect(other.seen).toHaveLength(1);
  });

  test('whose authorities cannot be read is not asked', async () => {
    for (const ca of ['/nothing.pem', '/etc/hostname'])
      await expect(manifest(home(settings(`ca: ${ca}`)))).rejects.toMatchObject({
        code: 'TSV_REGISTRY',
        message: expect.stringContaining(ca),
      });
    await expect(manifest({ ...home(), SSL_CERT_FILE: '/nothing.pem' })).rejects.toMatchObject({
      code: 'TSV_DOWNLOAD',
      message: 'the authorities in /nothing.pem cannot be read',
    });
  });
});

describe('a registry with a password', () => {
  let registry: TestRegistry;
  beforeAll(async () => {
    registry = await TestRegistry.start({ users: { ada: 'the pass:word', bob: 'x' } });
    registry.push(image, 'app:1');
  });
  afterAll(() => registry.close());
  const manifest = (env: Record<string, string>) => client(env).manifest(parseReference(`${registry.host}/app:1`));
  const loginAs = (env: Record<string, string>, username: string, password: string) =>
    loginTo({ registry: registry.host, username, password }, { env, signal });
  const configOf = (env: Record<string, string>): string => join(env.HOME ?? '', '.docker/config.json');

  test('tells strangers how to log in', async () => {
    await expect(manifest(home())).rejects.toMatchObject({
      code: 'TSV_REGISTRY_LOGIN',
      hint: expect.stringContaining(`tsv image login ${registry.host}`),
    });
  });

  test('is open after a login, and closed after the logout', async () => {
    const env = home();
    expect(await loginAs(env, 'ada', 'the pass:word')).toEqual({
      registry: registry.host,
      savedIn: configOf(env),
      isHelper: false,
    });
    expect(statSync(configOf(env)).mode & 0o777).toBe(0o600);
    expect((await manifest(env)).bytes).toEqual(registry.rawManifest('app:1'));
    expect(await logout(registry.host, { env, signal })).toEqual({
      registry: registry.host,
      removedFrom: configOf(env),
      stillKnown: false,
    });
    await expect(manifest(env)).rejects.toMatchObject({ code: 'TSV_REGISTRY_LOGIN' });
    expect(await logout(registry.host, { env, signal })).toMatchObject({ removedFrom: undefined });
  });

  test('does not take another password, and nothing of it is saved', async () => {
    const env = home();
    await expect(loginAs(env, 'ada', 'wrong')).rejects.toMatchObject({ code: 'TSV_REGISTRY_LOGIN' });
    expect(existsSync(configOf(env))).toBe(false);
    await expect(loginAs(env, 'a:b', 'x')).rejects.toMatchObject({ code: 'TSV_USAGE' });
  });

  test('whose password has changed since the login says so', async () => {
    const env = home();
    const auth = Buffer.from('ada:old').toString('base64');
    mkdirSync(dirname(configOf(env)));
    writeFileSync(configOf(env), JSON.stringify({ auths: { [registry.host]: { auth } } }));
    await expect(manifest(env)).rejects.toMatchObject({
      code: 'TSV_REGISTRY_LOGIN',
      message: `${registry.host} does not accept your credentials`,
      details: expect.arrayContaining(['they are of the user "ada"']),
      hint: `log in again: tsv image login ${registry.host}`,
    });
  });

  test('has its login in the file of Docker, where everything else stays as it was', async () => {
    const env = home();
    const target = join(env.HOME ?? '', 'elsewhere.json');
    const others = {
      credHelpers: { 'gcr.io': 'gcloud' },
      auths: { 'quay.io': { auth: 'eDp5' } },
      HttpHeaders: { 'X-A': 'b' },
      new: [1],
    };
    writeFileSync(target, JSON.stringify(others), { mode: 0o644 });
    mkdirSync(dirname(configOf(env)));
    symlinkSync(target, configOf(env));
    await loginAs(env, 'bob', 'x');
    const auth = Buffer.from('bob:x').toString('base64');
    expect(JSON.parse(readFileSync(target, 'utf8'))).toEqual({
      ...others,
      auths: { ...others.auths, [registry.host]: { auth } },
    });
    expect(statSync(target).mode & 0o777).toBe(0o600);
    await logout(registry.host, { env, signal });
    expect(JSON.parse(readFileSync(target, 'utf8'))).toEqual(others);
  });

  test('is known to who has logged in with another program', async () => {
    const env = home();
    mustRun(
      dir,
      'skopeo',
      'login',
      '--tls-verify=false',
      '--authfile',
      join(env.HOME ?? '', 'containers/auth.json'),
      '-u',
      'ada',
      '-p',
      'the pass:word',
      registry.host,
    );
    expect((await manifest(env)).bytes).toEqual(registry.rawManifest('app:1'));
    expect(await logout(registry.host, { env, signal })).toMatchObject({ removedFrom: undefined, stillKnown: true });
  });

  test('has its login with a helper, when Docker is told so', async () => {
    const env = home();
    const bin = join(env.HOME ?? '', 'bin');
    mkdirSync(bin);
    const script = `#!/bin/sh
cd "${bin}"
case $1 in
  store) cat > kept ;;
  get) [ -e kept ] && sed 's/"ServerURL"/"S"/' kept || { echo 'credentials not found in native keychain'; exit 1; } ;;
  erase) rm -f kept ;;
esac
`;
    writeFileSync(join(bin, 'docker-credential-test'), script, { mode: 0o755 });
    mkdirSync(dirname(configOf(env)));
    writeFileSync(configOf(env), '{"credsStore":"test"}');
    const withHelper = { ...env, PATH: `${bin}:${env.PATH}` };
    expect(await loginAs(withHelper, 'ada', 'the pass:word')).toMatchObject({
      savedIn: 'docker-credential-test',
      isHelper: true,
    });
    expect(readFileSync(configOf(env), 'utf8')).toBe('{"credsStore":"test"}');
    expect((await manifest(withHelper)).bytes).toEqual(registry.rawManifest('app:1'));
    expect(await logout(registry.host, { env: withHelper, signal })).toMatchObject({
      removedFrom: 'docker-credential-test',
    });
    await expect(manifest(withHelper)).rejects.toMatchObject({ code: 'TSV_REGISTRY_LOGIN' });
  });
});

test('a registry that is not there is told with what to check', async () => {
  const nobody = await closedPort();
  await expect(client(home()).manifest(parseReference(`${nobody}/app`))).rejects.toMatchObject({
    code: 'TSV_REGISTRY',
    message: `${nobody} could not be reached`,
    details: [`${nobody} refuses connections`],
    hint: 'check that a registry runs on this host, and on this port (ss -ltn)',
  });
  await expect(client(home()).manifest(parseReference('registry.invalid/app'))).rejects.toMatchObject({
    code: 'TSV_REGISTRY',
    hint: expect.stringContaining('check the name registry.invalid'),
  });
});

/** Where nobody listens any more. */
async function closedPort(): Promise<string> {
  const registry = await testRegistry();
  await registry.close();
  return registry.host;
}
