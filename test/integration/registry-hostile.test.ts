import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { Descriptor } from '../../src/model/image.ts';
import { digestOf } from '../../src/store/content/digest.ts';
import { HttpClient } from '../../src/store/download/http.ts';
import { RemoteError, type RemoteFile } from '../../src/store/download/remote.ts';
import { Authorizer } from '../../src/store/registry/auth.ts';
import { loginTo, Registry, type RegistryOptions } from '../../src/store/registry/client.ts';
import type { Credentials } from '../../src/store/registry/credentials.ts';
import { unreachable } from '../../src/store/registry/failures.ts';
import { parseReference } from '../../src/store/registry/reference.ts';
import { type HostileServer, hostileServer, json, line, type SeenRequest } from '../support/hostile-server.ts';

/** What docker-registry never does: servers of this file, each as a registry, a token server or a host of blobs. */

const signal = new AbortController().signal;
const ociManifest = 'application/vnd.oci.image.manifest.v1+json';
const layer = Buffer.from('a layer'.repeat(100));
const blob: Descriptor = { mediaType: 'x', digest: digestOf(layer), size: layer.length };
const manifest = Buffer.from(
  JSON.stringify({ schemaVersion: 2, mediaType: ociManifest, config: blob, layers: [blob] }),
);

function home(registries?: string): Record<string, string> {
  const folder = mkdtempSync(join(tmpdir(), 'tsv-home-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  if (registries !== undefined) {
    mkdirSync(join(folder, '.config/ts-vm'), { recursive: true });
    writeFileSync(join(folder, '.config/ts-vm/registries.yaml'), `version: 1\nregistries:\n${registries}`);
  }
  return { HOME: folder, XDG_RUNTIME_DIR: folder, PATH: process.env.PATH ?? '' };
}

function client(more: Partial<RegistryOptions> = {}): Registry {
  const registry = new Registry({ env: home(), signal, backoffMs: 1, ...more });
  onTestFinished(() => registry.close());
  return registry;
}

const ada: Credentials = { kind: 'password', username: 'ada', password: 'secret' };
const basicOfAda = `Basic ${Buffer.from('ada:secret').toString('base64')}`;
const as = (credentials: Credentials, ...hosts: string[]) => ({
  credentials: { find: async (host: string) => (hosts.includes(host) ? credentials : undefined) },
});

async function read(file: RemoteFile, offset = 0): Promise<{ offset: number; bytes: Buffer }> {
  const { body, offset: start } = await file.open({ offset, signal });
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return { offset: start, bytes: Buffer.concat(chunks) };
}

/** Answers as a registry that has `app:1` of one layer. */
function serve(request: SeenRequest, response: ServerResponse): void {
  if (request.url.includes('/manifests/')) {
    response.writeHead(200, { 'content-type': ociManifest, 'docker-content-digest': digestOf(manifest) });
    response.end(manifest);
  } else if (request.url.includes('/blobs/')) response.end(layer);
  else if (request.url === '/v2/') json(response, 200, {});
  else json(response, 404, { errors: [{ code: 'NAME_UNKNOWN', message: 'what?' }] });
}

/** A token server that gives `t1`, `t2`, …, and a registry that takes only those in `good`. */
async function withTokens(options: { realm?: string; life?: number; wants?: (request: SeenRequest) => boolean } = {}) {
  const good = new Set<string>();
  let count = 0;
  const tokens = await hostileServer((request, response) => {
    if (options.wants?.(request) === false) return json(response, 401, { details: 'incorrect username or password' });
    const token = `t${++count}`;
    good.add(`Bearer ${token}`);
    json(response, 200, { token, ...(options.life === undefined ? {} : { expires_in: options.life }) });
  });
  const registry: HostileServer = await hostileServer((request, response) => {
    if (good.has(request.headers.authorization ?? '')) return serve(request, response);
    const realm = options.realm ?? `${tokens.origin}/token`;
    const scope = 'repository:app:pull';
    json(
      response,
      401,
      { errors: [{ code: 'UNAUTHORIZED', message: 'authentication required' }] },
      { 'www-authenticate': `Bearer realm="${realm}",service="registry.test",scope="${scope}"` },
    );
  });
  return { tokens, registry, good, app: parseReference(`${registry.host}/app:1`) };
}

describe('a registry with tokens', () => {
  test('is given one for what is read, for everything that is read at the same time', async () => {
    const { tokens, registry, app } = await withTokens();
    const images = client();
    expect((await images.manifest(app)).bytes).toEqual(manifest);
    const all = await Promise.all(Array.from({ length: 5 }, () => read(images.blob(app, blob))));
    for (const { bytes } of all) expect(bytes).toEqual(layer);
    expect(tokens.seen.map(({ url }) => url)).toEqual([
      '/token?client_id=ts-vm&service=registry.test&scope=repository%3Aapp%3Apull',
    ]);
    expect(tokens.seen[0]?.headers.authorization).toBeUndefined(); // nobody in particular
    expect(registry.seen.map(({ headers }) => headers.authorization)).toEqual([
      undefined,
      ...Array(6).fill('Bearer t1'),
    ]);
  });

  test('is asked at the same time by many with one request for a token', async () => {
    const { tokens, app } = await withTokens();
    const images = client();
    await Promise.all(Array.from({ length: 5 }, () => read(images.blob(app, blob))));
    expect(tokens.seen).toHaveLength(1);
  });

  test('F23 whose token has expired in the middle of a pull is given a new one', async () => {
    const { tokens, registry, app, good } = await withTokens();
    const images = client();
    await images.manifest(app);
    good.clear();
    const all = await Promise.all(Array.from({ length: 5 }, () => read(images.blob(app, blob))));
    for (const { bytes } of all) expect(bytes).toEqual(layer);
    expect(tokens.seen).toHaveLength(2);
    expect(registry.seen.filter(({ headers }) => headers.authorization === 'Bearer t2')).toHaveLength(5);
  });

  test('is given a new one before the old one expires', async () => {
    const { tokens, registry, app } = await withTokens({ life: 300 });
    let now = 0;
    const images = client({ now: () => now });
    await images.manifest(app);
    now = 289_000;
    await images.manifest(app);
    expect(tokens.seen).toHaveLength(1);
    now = 291_000;
    await images.manifest(app);
    expect(tokens.seen).toHaveLength(2);
    expect(registry.seen.filter(({ headers }) => headers.authorization === 'Bearer t1')).toHaveLength(2);
  });

  test('F23 that refuses even a new token is not asked for ever', async () => {
    const { tokens, registry, good, app } = await withTokens();
    good.add = () => good;
    await expect(client().manifest(app)).rejects.toMatchObject({ code: 'TSV_REGISTRY_LOGIN' });
    expect(tokens.seen).toHaveLength(1);
    expect(registry.seen).toHaveLength(2);
  });

  test('gets the name and the password only through its token server', async () => {
    const { tokens, registry, app } = await withTokens({
      wants: ({ headers }) => headers.authorization === basicOfAda,
    });
    await client(as(ada, registry.host)).manifest(app);
    expect(tokens.seen[0]?.url).toContain('account=ada');
    expect(registry.seen.map(({ headers }) => headers.authorization)).toEqual([undefined, 'Bearer t1']);
    await expect(client(as({ ...ada, password: 'x' }, registry.host)).manifest(app)).rejects.toMatchObject({
      code: 'TSV_REGISTRY_LOGIN',
      message: `${registry.host} does not accept your credentials`,
      details: expect.arrayContaining(['it says: incorrect username or password', 'they are of the user "ada"']),
    });
    await expect(client().manifest(app)).rejects.toMatchObject({
      code: 'TSV_REGISTRY_LOGIN',
      hint: expect.stringContaining(`tsv image login ${registry.host}`),
    });
  });

  test('trades an identity token for one', async () => {
    const { tokens, registry, app } = await withTokens();
    await client(as({ kind: 'identity', token: 'refresh' }, registry.host)).manifest(app);
    const [asked] = tokens.seen;
    expect(asked?.method).toBe('POST');
    expect(Object.fromEntries(new URLSearchParams(asked?.body.toString()))).toEqual({
      grant_type: 'refresh_token',
      refresh_token: 'refresh',
      client_id: 'ts-vm',
      service: 'registry.test',
      scope: 'repository:app:pull',
    });
  });

  test('takes a login when its token server does', async () => {
    const { registry } = await withTokens({ wants: ({ headers }) => headers.authorization === basicOfAda });
    const login = (password: string) =>
      loginTo({ registry: registry.host, username: 'ada', password }, { env: home(), signal });
    await expect(login('wrong')).rejects.toMatchObject({ code: 'TSV_REGISTRY_LOGIN' });
    expect(await login('secret')).toMatchObject({ registry: registry.host });
  });

  test.each([
    ['is no URL', 'token'],
    ['is of another kind', 'file:///etc/passwd'],
    ['has a password in it', 'https://a:b@127.0.0.1/token'],
    ['leads to another host without TLS', 'http://images.invalid/token'],
  ])('whose token server %s gets no credentials', async (_, realm) => {
    const { registry, app } = await withTokens({ realm });
    await expect(client(as(ada, registry.host)).manifest(app)).rejects.toMatchObject({
      code: 'TSV_REGISTRY',
      message: `${registry.host} names no token server that may be asked`,
    });
  });

  test.each([
    ['no token', {}],
    ['a token of two lines', { token: 'a\r\nX-Evil: b' }],
    ['a token that is no text', { token: 7 }],
  ])('whose token server gives %s is not asked further', async (_, answer) => {
    const tokens = await hostileServer((_request, response) => json(response, 200, answer));
    const { registry, app } = await withTokens({ realm: tokens.origin });
    await expect(client().manifest(app)).rejects.toMatchObject({ code: 'TSV_REGISTRY' });
    expect(registry.seen).toHaveLength(1);
  });

  test('that speaks TLS and names a token server that does not gets no credentials', async () => {
    const tokens = await hostileServer((_, response) => json(response, 200, { token: 't' }));
    const http = new HttpClient({ env: {} });
    onTestFinished(() => http.close());
    const endpoint = { name: 'registry.test', origins: [], prefix: '', isMirror: false, insecure: false };
    const authorizer = new Authorizer({ endpoint, http, signal, ...as(ada, 'registry.test') });
    const asked = authorizer.renew(
      [{ scheme: 'bearer', parameters: { realm: `${tokens.origin}/token` } }],
      { scopes: [], repository: 'app' },
      undefined,
      'https://registry.test',
    );
    await expect(asked).rejects.toMatchObject({ code: 'TSV_REGISTRY', details: [`${tokens.origin} is not https:`] });
    expect(tokens.seen).toEqual([]);
  });

  test('that wants a kind of login of its own is told as such', async () => {
    const registry = await hostileServer((_, response) =>
      json(response, 401, {}, { 'www-authenticate': 'Negotiate, NTLM' }),
    );
    await expect(client(as(ada, registry.host)).manifest(parseReference(`${registry.host}/app`))).rejects.toMatchObject(
      {
        code: 'TSV_REGISTRY',
        details: ['it takes negotiate, ntlm; known are bearer and basic'],
      },
    );
  });
});

describe('S31 proof of who asks', () => {
  test('does not follow a blob to another host, nor answer its questions', async () => {
    const elsewhere = await hostileServer((_, response) =>
      json(response, 401, {}, { 'www-authenticate': `Basic realm="give", Bearer realm="${elsewhere.origin}/token"` }),
    );
    const registry = await hostileServer((request, response) => {
      if (request.headers.authorization !== basicOfAda)
        return json(response, 401, {}, { 'www-authenticate': 'Basic realm="r"' });
      response.writeHead(307, { location: `${elsewhere.origin}/data` }).end();
    });
    const images = client(as(ada, registry.host, elsewhere.host));
    const asked = read(images.blob(parseReference(`${registry.host}/app`), blob));
    await expect(asked).rejects.toMatchObject({ code: 'TSV_REGISTRY_LOGIN' });
    expect(registry.seen.map(({ headers }) => headers.authorization)).toEqual([undefined, basicOfAda]);
    expect(elsewhere.seen.map(({ url, headers }) => [url, headers.authorization])).toEqual([['/data', undefined]]);
  });

  test('is not given to whoever is redirected to, even by a registry that wants none', async () => {
    const elsewhere: HostileServer = await hostileServer((_, response) =>
      json(response, 401, {}, { 'www-authenticate': `Bearer realm="${elsewhere.origin}/token",service="s"` }),
    );
    const registry = await hostileServer((_, response) =>
      response.writeHead(307, { location: `${elsewhere.origin}/data` }).end(),
    );
    const asked = read(client(as(ada, registry.host)).blob(parseReference(`${registry.host}/app`), blob));
    await expect(asked).rejects.toMatchObject({ code: 'TSV_REGISTRY_LOGIN' });
    expect(elsewhere.seen.map(({ url, headers }) => [url, headers.authorization])).toEqual([['/data', undefined]]);
  });

  test('stays away from the host that a blob comes from', async () => {
    const elsewhere = await hostileServer((_, response) => response.end(layer));
    const redirecting = await hostileServer((request, response) => {
      if (request.headers.authorization !== basicOfAda)
        return json(response, 401, {}, { 'www-authenticate': 'Basic realm="r"' });
      response.writeHead(302, { location: `${elsewhere.origin}/signed?a=b` }).end();
    });
    const images = client(as(ada, redirecting.host));
    expect((await read(images.blob(parseReference(`${redirecting.host}/app`), blob))).bytes).toEqual(layer);
    expect(elsewhere.seen.map(({ headers }) => headers.authorization)).toEqual([undefined]);
  });

  test('goes to no place that a layer names itself', async () => {
    const elsewhere = await hostileServer((_, response) => response.end(layer));
    const registry = await hostileServer((_, response) => json(response, 404, {}));
    const foreign = { ...blob, urls: [`${elsewhere.origin}/layer`] };
    const asked = read(client(as(ada, registry.host)).blob(parseReference(`${registry.host}/app`), foreign));
    await expect(asked).rejects.toMatchObject({ code: 'TSV_IMAGE_UNKNOWN' });
    expect(elsewhere.seen).toEqual([]);
    expect(registry.seen).toHaveLength(1);
  });

  test('goes to no mirror that it is not for', async () => {
    const mirror = await hostileServer((_, response) =>
      json(response, 401, {}, { 'www-authenticate': 'Basic realm="give"' }),
    );
    const registry = await hostileServer((request, response) =>
      request.headers.authorization === basicOfAda
        ? serve(request, response)
        : json(response, 401, {}, { 'www-authenticate': 'Basic realm="r"' }),
    );
    const notices: string[] = [];
    const images = client({
      env: home(`  ${registry.host}:\n    mirrors: [${mirror.origin}]\n`),
      notice: (text) => notices.push(text),
      ...as(ada, registry.host),
    });
    expect((await images.manifest(parseReference(`${registry.host}/app:1`))).bytes).toEqual(manifest);
    expect(mirror.seen.map(({ headers }) => headers.authorization)).toEqual([undefined]);
    expect(notices).toEqual([expect.stringMatching(/^mirror .* does not let you use app /)]);
  });

  test('does not follow an upload to another host, or a list of tags', async () => {
    const elsewhere = await hostileServer((_, response) => {
      response.writeHead(201).end();
    });
    const registry = await hostileServer((request, response) => {
      if (request.headers.authorization !== basicOfAda)
        return json(response, 401, {}, { 'www-authenticate': 'Basic realm="r"' });
      if (request.method === 'HEAD') response.writeHead(404).end();
      else if (request.method === 'POST')
        response.writeHead(202, { location: `${elsewhere.origin}/upload?state=a%2Bb` }).end();
      else json(response, 200, { tags: ['a'] }, { link: `<${elsewhere.origin}/v2/app/tags/list?last=a>; rel="next"` });
    });
    const images = client(as(ada, registry.host));
    const app = parseReference(`${registry.host}/app`);
    const upload = {
      signal,
      async *open({ start, end }: { start: number; end: number }) {
        yield layer.subarray(start, end);
      },
    };
    expect(await images.uploadBlob(app, blob, upload)).toBe('uploaded');
    expect(elsewhere.seen.map(({ method, url, headers, body }) => [method, url, headers.authorization, body])).toEqual([
      ['PUT', `/upload?state=a%2Bb&digest=${encodeURIComponent(blob.digest)}`, undefined, layer],
    ]);
    const tags: string[] = [];
    const list = async () => {
      for await (const tag of images.tags(app)) tags.push(tag);
    };
    await expect(list()).rejects.toMatchObject({
      code: 'TSV_REGISTRY',
      details: [expect.stringContaining(elsewhere.host)],
    });
    expect(tags).toEqual(['a']);
    expect(elsewhere.seen).toHaveLength(1);
  });
});

describe('a manifest', () => {
  const answered = async (headers: Record<string, string>, body: Buffer | string, name = 'app:1') => {
    const registry = await hostileServer((_, response) => {
      response.writeHead(200, headers);
      response.end(body);
    });
    return client().manifest(parseReference(`${registry.host}/${name}`));
  };

  test('S30 that is two things at once is refused, and so is one whose type depends on who looks', async () => {
    const both = JSON.stringify({ schemaVersion: 2, manifests: [], config: blob, layers: [blob] });
    await expect(answered({ 'content-type': 'application/vnd.oci.image.index.v1+json' }, both)).rejects.toMatchObject({
      code: 'TSV_IMAGE',
      details: ['it is an index and a manifest at once (manifests, and layers or config)'],
    });
    await expect(
      answered({ 'content-type': 'application/vnd.docker.distribution.manifest.v2+json' }, manifest),
    ).rejects.toMatchObject({ code: 'TSV_IMAGE', details: [expect.stringContaining('says itself')] });
  });

  test('F23 with other bytes than its digest is refused, whoever gave the digest', async () => {
    const type = { 'content-type': ociManifest };
    const other = digestOf(Buffer.from('other'));
    await expect(answered(type, manifest, `app@${other}`)).rejects.toMatchObject({ code: 'TSV_DIGEST' });
    await expect(answered({ ...type, 'docker-content-digest': other }, manifest)).rejects.toMatchObject({
      code: 'TSV_DIGEST',
    });
    await expect(answered({ ...type, 'docker-content-digest': 'sha256:../../x' }, manifest)).rejects.toMatchObject({
      code: 'TSV_DIGEST',
    });
  });

  test('of more than 4 MiB is not read to its end', async () => {
    const registry = await hostileServer((_, response) => {
      response.writeHead(200, { 'content-type': ociManifest });
      const write = (): void => {
        while (response.write(Buffer.alloc(1 << 20, ' ')));
      };
      response.on('drain', write);
      write();
    });
    await expect(client().manifest(parseReference(`${registry.host}/app`))).rejects.toMatchObject({
      code: 'TSV_REGISTRY',
      details: [expect.stringContaining('longer than 4194304 bytes')],
    });
  });

  test('is asked for with all types that are known', async () => {
    const registry = await hostileServer(serve);
    await client().manifest(parseReference(`${registry.host}/app:1`));
    expect(registry.seen[0]?.headers.accept?.split(', ').sort()).toEqual([
      'application/vnd.docker.distribution.manifest.list.v2+json',
      'application/vnd.docker.distribution.manifest.v2+json',
      'application/vnd.oci.image.index.v1+json',
      'application/vnd.oci.image.manifest.v1+json',
    ]);
  });
});

describe('F23 a registry', () => {
  test('that has had enough is quoted', async () => {
    const registry = await hostileServer((_, response) =>
      json(
        response,
        429,
        { errors: [{ code: 'TOOMANYREQUESTS', message: 'You have reached your pull rate limit.' }] },
        { 'retry-after': '3600' },
      ),
    );
    const app = parseReference(`${registry.host}/app`);
    await expect(client().manifest(app)).rejects.toMatchObject({
      code: 'TSV_REGISTRY',
      details: [
        `HTTP 429 from ${registry.host}`,
        'it says: You have reached your pull rate limit. (TOOMANYREQUESTS)',
        'to be asked again after 3600',
      ],
    });
    expect(registry.seen).toHaveLength(1);
    await expect(read(client().blob(app, blob))).rejects.toMatchObject({
      name: 'RemoteError',
      retry: true,
      retryAfterMs: 3_600_000,
    });
  });

  test.each([503, 429])('that answers %i once is asked again', async (status) => {
    let count = 0;
    const registry = await hostileServer((request, response) =>
      count++ === 0 ? json(response, status, {}, { 'retry-after': '0' }) : serve(request, response),
    );
    expect((await client().manifest(parseReference(`${registry.host}/app:1`))).bytes).toEqual(manifest);
  });

  test('that breaks connections is asked three times', async () => {
    const registry = await hostileServer((_, response) => response.destroy());
    await expect(client().manifest(parseReference(`${registry.host}/app:1`))).rejects.toMatchObject({
      code: 'TSV_REGISTRY',
    });
    expect(registry.seen).toHaveLength(3);
  });

  test('that answers 500 to everything is not asked again', async () => {
    const registry = await hostileServer((_, response) => response.writeHead(500).end('<html>'));
    await expect(client().manifest(parseReference(`${registry.host}/app:1`))).rejects.toMatchObject({
      code: 'TSV_REGISTRY',
      details: [`HTTP 500 from ${registry.host}`],
    });
    expect(registry.seen).toHaveLength(1);
  });

  test('that redirects without end is given up', async () => {
    const registry: HostileServer = await hostileServer((request, response) =>
      response.writeHead(307, { location: `${request.url}x` }).end(),
    );
    await expect(client().manifest(parseReference(`${registry.host}/app:1`))).rejects.toMatchObject({
      code: 'TSV_REGISTRY',
      details: [expect.stringContaining('redirects')],
    });
  });

  test('that never answers is left when the command is', async () => {
    const command = new AbortController();
    const registry = await hostileServer(() => command.abort());
    await expect(
      client({ signal: command.signal }).manifest(parseReference(`${registry.host}/app`)),
    ).rejects.toMatchObject({
      code: 'TSV_CANCELLED',
    });
  });

  test('that ignores a range gives the file from its beginning, and says so', async () => {
    const registry = await hostileServer(serve);
    const file = client().blob(parseReference(`${registry.host}/app`), blob);
    expect(await read(file, 100)).toEqual({ offset: 0, bytes: layer });
    expect(registry.seen.at(-1)?.headers.range).toBe('bytes=100-');
  });
});

describe('a list of tags', () => {
  const list = async (
    handler: Parameters<typeof hostileServer>[0],
  ): Promise<{ tags: string[]; registry: HostileServer }> => {
    const registry = await hostileServer(handler);
    const tags: string[] = [];
    for await (const tag of client().tags(parseReference(`${registry.host}/app`))) tags.push(tag);
    return { tags, registry };
  };

  test('is read page after page', async () => {
    const pages: Record<string, [string[] | null, string?]> = {
      '/v2/app/tags/list?n=1000': [['a', 'b'], '/v2/app/tags/list?n=2&last=b'],
      '/v2/app/tags/list?n=2&last=b': [['c', 'd'], 'list?n=2&last=d'],
      '/v2/app/tags/list?n=2&last=d': [null],
    };
    const { tags } = await list(({ url }, response) => {
      const [names, next] = pages[url] ?? [[]];
      json(response, 200, { name: 'app', tags: names }, next === undefined ? {} : { link: `<${next}>; rel="next"` });
    });
    expect(tags).toEqual(['a', 'b', 'c', 'd']);
  });

  test('that goes on for ever comes to an end', async () => {
    const { tags, registry } = await list(({ url }, response) =>
      json(response, 200, { tags: ['a'] }, { link: `<${url}>; rel="next"` }),
    );
    expect(tags).toHaveLength(200);
    expect(registry.seen).toHaveLength(200);
  });

  test('has only what may be a tag', async () => {
    const { tags } = await list((_, response) =>
      json(response, 200, { tags: ['ok', '\u001b[2J', '../x', 7, '', 'a b', 'v1.0_x'] }),
    );
    expect(tags).toEqual(['ok', 'v1.0_x']);
  });
});

test('a registry without TLS that must have it is told as such, with the way to allow it', async () => {
  const plain = await hostileServer(serve);
  const http = new HttpClient({ env: {} });
  onTestFinished(() => http.close());
  const error: unknown = await http.request(`https://${plain.host}/v2/`, { signal }).catch((caught: unknown) => caught);
  if (!(error instanceof RemoteError)) return expect.unreachable('it was reached');
  const endpoint = { name: 'lab.example.org', origins: [], prefix: '', isMirror: false, insecure: false };
  expect(unreachable(endpoint, error, '/etc/registries.yaml').hint).toBe(
    'the server does not speak TLS: if it may be used without, insecure: true for lab.example.org in /etc/registries.yaml',
  );
});

describe('a mirror', () => {
  const through = async (mirror: HostileServer, path = '') => {
    const registry = await hostileServer(serve);
    const notices: string[] = [];
    const env = home(`  ${registry.host}:\n    mirrors: [${mirror.origin}${path}]\n`);
    return {
      registry,
      notices,
      images: client({ env, notice: (text) => notices.push(text) }),
      app: parseReference(`${registry.host}/app:1`),
    };
  };

  test('is asked first, below its path', async () => {
    const mirror = await hostileServer(serve);
    const { images, app, registry, notices } = await through(mirror, '/hub/proxy');
    await images.manifest(app);
    await read(images.blob(app, blob));
    expect(mirror.seen.map(line)).toEqual([
      'GET /v2/hub/proxy/app/manifests/1',
      `GET /v2/hub/proxy/app/blobs/${blob.digest}`,
    ]);
    expect(registry.seen).toEqual([]);
    expect(notices).toEqual([]);
  });

  test('after another one is asked before the registry, which may then be nowhere', async () => {
    const broken = await hostileServer((_, response) => response.writeHead(500).end());
    const good = await hostileServer(serve);
    const notices: string[] = [];
    const env = home(`  images.invalid:\n    mirrors: [${broken.origin}, ${good.origin}]\n`);
    const images = client({ env, notice: (text) => notices.push(text) });
    const app = parseReference('images.invalid/app:1');
    expect((await images.manifest(app)).bytes).toEqual(manifest);
    expect((await read(images.blob(app, blob))).bytes).toEqual(layer);
    expect([broken.seen.length, good.seen.length]).toEqual([1, 2]);
    expect(notices).toEqual([expect.stringMatching(`; asking ${good.host}$`)]);
  });

  test('that lacks an image is passed over for this image', async () => {
    const mirror = await hostileServer((request, response) =>
      request.url.includes('/manifests/') ? json(response, 404, {}) : serve(request, response),
    );
    const { images, app, registry, notices } = await through(mirror);
    expect((await images.manifest(app)).bytes).toEqual(manifest);
    await read(images.blob(app, blob));
    expect(registry.seen.map(line)).toEqual(['GET /v2/app/manifests/1']);
    expect(notices).toEqual([
      `mirror ${mirror.host}: ${mirror.host} has no app:1 (HTTP 404 from ${mirror.host}); asking ${registry.host}`,
    ]);
  });

  test('that lies is passed over for everything', async () => {
    const mirror = await hostileServer((_, response) => {
      response.writeHead(200, { 'content-type': ociManifest }).end('{"layers":[]}');
    });
    const { images, app, registry, notices } = await through(mirror);
    const exact = { ...app, digest: digestOf(manifest) };
    expect((await images.manifest(exact)).bytes).toEqual(manifest);
    await read(images.blob(app, blob));
    expect(mirror.seen).toHaveLength(1);
    expect(registry.seen).toHaveLength(2);
    expect(notices).toEqual([expect.stringContaining('does not have the digest that was asked for')]);
  });

  test('that breaks off in the middle of a blob is not asked for the rest', async () => {
    const mirror = await hostileServer((_, response) => {
      response.writeHead(200, { 'content-length': String(layer.length) });
      response.write(layer.subarray(0, 100), () => response.destroy());
    });
    const { images, app, registry } = await through(mirror);
    const file = images.blob(app, blob);
    await expect(read(file)).rejects.toMatchObject({ name: 'RemoteError', retry: true });
    expect((await read(file)).bytes).toEqual(layer);
    expect(registry.seen).toHaveLength(1);
  });
});

describe('an upload', () => {
  const upload = {
    signal,
    async *open({ start, end }: { start: number; end: number }) {
      for (let at = start; at < end; at += 100) yield layer.subarray(at, Math.min(at + 100, end));
    },
  };

  /** A registry that keeps what it is sent, and lets `disturb` break in. */
  const keeping = async (disturb: (request: SeenRequest, kept: Buffer, response: ServerResponse) => boolean) => {
    let kept = Buffer.alloc(0);
    const state = (): Record<string, string> => ({
      location: '/v2/app/blobs/uploads/1?s=a',
      range: `0-${Math.max(0, kept.length - 1)}`,
    });
    const registry = await hostileServer((request, response) => {
      const { method, headers, body } = request;
      if (method === 'HEAD') return void response.writeHead(404).end();
      if (method === 'POST') {
        if (disturb(request, kept, response)) return;
        kept = Buffer.alloc(0);
        return void response.writeHead(202, state()).end();
      }
      if (method === 'GET') return void response.writeHead(204, state()).end();
      const start = Number((headers['content-range'] ?? '0-').split('-')[0]);
      if (start !== kept.length) return void response.writeHead(416, state()).end();
      if (disturb(request, kept, response)) {
        kept = Buffer.concat([kept, body.subarray(0, body.length >> 1)]); // half of it has arrived
        return;
      }
      kept = Buffer.concat([kept, body]);
      response.writeHead(method === 'PUT' ? 201 : 202, state()).end();
    });
    return { registry, kept: () => kept, app: parseReference(`${registry.host}/app`) };
  };

  test('that breaks off goes on from where the registry is', async () => {
    let broken = 0;
    const { registry, kept, app } = await keeping((request, _, response) => {
      if (request.method !== 'PATCH' || broken++ > 0) return false;
      response.destroy();
      return true;
    });
    expect(await client({ chunkBytes: 300 }).uploadBlob(app, blob, upload)).toBe('uploaded');
    expect(kept()).toEqual(layer);
    expect(
      registry.seen.filter(({ method }) => method === 'PATCH').map(({ headers }) => headers['content-range']),
    ).toEqual(['0-299', '150-449']);
    expect(registry.seen.at(-1)?.headers['content-range']).toBe('450-699');
  });

  test('that is too large for a proxy on the way comes in pieces', async () => {
    const large = Buffer.alloc((16 << 20) + 5, 'x');
    const { registry, kept, app } = await keeping(({ body }, _, response) => {
      if (body.length <= 16 << 20) return false;
      response.writeHead(413).end();
      return true;
    });
    const descriptor = { mediaType: 'x', digest: digestOf(large), size: large.length };
    const open = async function* ({ start, end }: { start: number; end: number }) {
      yield large.subarray(start, end);
    };
    expect(await client().uploadBlob(app, descriptor, { signal, open })).toBe('uploaded');
    expect(kept().equals(large)).toBe(true);
    expect(registry.seen.map(({ method }) => method)).toEqual(['HEAD', 'POST', 'PUT', 'POST', 'PATCH', 'PUT']);
  });

  test('is sent whole where the lender of a blob may not be read', async () => {
    const { registry, kept, app } = await keeping((request, _, response) => {
      if (!request.url.includes('mount=')) return false;
      json(response, 403, { errors: [{ code: 'DENIED', message: 'not yours' }] });
      return true;
    });
    expect(await client().uploadBlob(app, blob, { ...upload, mountFrom: 'other' })).toBe('uploaded');
    expect(kept()).toEqual(layer);
    expect(registry.seen.map(({ method }) => method)).toEqual(['HEAD', 'POST', 'POST', 'PUT']);
  });

  test('that never succeeds is given up', async () => {
    const { registry, app } = await keeping((request, _, response) => {
      if (request.method === 'PUT') response.destroy();
      return request.method === 'PUT';
    });
    await expect(client().uploadBlob(app, blob, upload)).rejects.toMatchObject({ code: 'TSV_REGISTRY' });
    expect(registry.seen.filter(({ method }) => method === 'PUT')).toHaveLength(5);
  });

  test('of nothing is one, too', async () => {
    const { app } = await keeping(() => false);
    const nothing = { mediaType: 'x', digest: digestOf(Buffer.alloc(0)), size: 0 };
    expect(await client().uploadBlob(app, nothing, upload)).toBe('uploaded');
  });

  test('whose manifest is told as something else by the registry is an error', async () => {
    const registry = await hostileServer((_, response) =>
      response.writeHead(201, { 'docker-content-digest': digestOf(Buffer.from('other')) }).end(),
    );
    const pushed = client().putManifest(parseReference(`${registry.host}/app:1`), {
      mediaType: ociManifest,
      bytes: manifest,
    });
    await expect(pushed).rejects.toMatchObject({ code: 'TSV_DIGEST' });
  });
});
