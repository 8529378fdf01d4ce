import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { bestKey, credentialFiles, parseCredentialFile } from '../../../../src/store/registry/credential-files.ts';
import { credentialsOf, userCredentials } from '../../../../src/store/registry/credentials.ts';
import { until } from '../../../support/until.ts';

const auth = (user: string, password: string) => ({ auth: Buffer.from(`${user}:${password}`).toString('base64') });

describe('the key of a registry', () => {
  test.each([
    [['https://index.docker.io/v1/'], 'docker.io', '', 'https://index.docker.io/v1/'],
    [['docker.io'], 'docker.io', 'library/nginx', 'docker.io'],
    [['https://quay.io/v2/'], 'quay.io', 'a/b', 'https://quay.io/v2/'],
    [['quay.io', 'quay.io/a', 'quay.io/a/b'], 'quay.io', 'a/b', 'quay.io/a/b'],
    [['quay.io/a/b', 'quay.io/a', 'quay.io'], 'quay.io', 'a/c', 'quay.io/a'],
    [['quay.io/a'], 'quay.io', 'ab', undefined],
    [['quay.io/a'], 'quay.io', '', undefined],
    [['quay.io'], 'quay.io.evil.org', '', undefined],
    [['evil-quay.io', 'quay.io:443'], 'quay.io', '', undefined],
    [['host:5000'], 'host:5001', '', undefined],
    [['host'], 'host:5000', '', undefined],
    [['HOST:5000'], 'host:5000', '', 'HOST:5000'],
  ])('of %j for %s %s is %s', (keys, host, repository, key) => {
    expect(bestKey(keys, host, repository)).toBe(key);
  });
});

describe('an entry', () => {
  test.each([
    [auth('me', 'pa:ss'), { kind: 'password', username: 'me', password: 'pa:ss' }],
    [
      { username: 'me', password: 'x' },
      { kind: 'password', username: 'me', password: 'x' },
    ],
    [
      { ...auth('me', ''), identitytoken: 'id' },
      { kind: 'identity', token: 'id' },
    ],
    [{ registrytoken: 'rt' }, { kind: 'bearer', token: 'rt' }],
    [{}, undefined],
  ])('%j', (entry, credentials) => {
    expect(credentialsOf(entry, 'host', 'file')).toEqual(credentials);
  });

  test('whose auth is not that of a user is told, and the auth is not shown', () => {
    expect(() => credentialsOf({ auth: 'c2VjcmV0' }, 'host', '/f')).toThrow(
      expect.objectContaining({ code: 'TSV_REGISTRY_LOGIN', message: expect.not.stringMatching(/c2VjcmV0|secret/) }),
    );
  });
});

test.each([
  '{',
  '[]',
  '{"auths":[]}',
  '{"auths":{"a":7}}',
  '{"auths":{"a":{"auth":7}}}',
  '{"credsStore":7}',
  '{"credHelpers":{"a":1}}',
])('a file of %s is told as not readable, without what is in it', (text) => {
  expect(() => parseCredentialFile(text, '/f')).toThrow(expect.objectContaining({ code: 'TSV_REGISTRY_LOGIN' }));
});

test('the files are those of Docker and of Podman, the first one that has something counts', () => {
  expect(credentialFiles({ HOME: '/h' }, 7)).toEqual([
    '/h/.docker/config.json',
    '/run/containers/7/auth.json',
    '/h/.config/containers/auth.json',
  ]);
  const all = { HOME: '/h', DOCKER_CONFIG: '/d', XDG_RUNTIME_DIR: '/r', XDG_CONFIG_HOME: '/c' };
  expect(credentialFiles(all)).toEqual(['/d/config.json', '/r/containers/auth.json', '/c/containers/auth.json']);
  expect(credentialFiles({ ...all, REGISTRY_AUTH_FILE: '/a.json' })[1]).toBe('/a.json');
});

/** `/proc/PID/status`; empty when there is no such process. */
function statusOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch {
    return '';
  }
}

describe('what a user has', () => {
  let dir: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'tsv-credentials-'));
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  const write = (path: string, value: unknown): void => {
    mkdirSync(dirname(join(dir, path)), { recursive: true });
    writeFileSync(join(dir, path), JSON.stringify(value));
  };
  const helper = (name: string, script: string): void => {
    mkdirSync(join(dir, 'bin'), { recursive: true });
    writeFileSync(join(dir, 'bin', `docker-credential-${name}`), `#!/bin/sh\n${script}\n`);
    chmodSync(join(dir, 'bin', `docker-credential-${name}`), 0o755);
  };
  const source = (helperTimeoutMs?: number, signal = new AbortController().signal) =>
    userCredentials({
      env: { HOME: dir, XDG_RUNTIME_DIR: join(dir, 'run'), PATH: `${dir}/bin:${process.env.PATH}` },
      signal,
      ...(helperTimeoutMs === undefined ? {} : { helperTimeoutMs }),
    });

  test('is looked for in one file after the other', async () => {
    write('.docker/config.json', { auths: { 'a.org': auth('docker', '1') }, HttpHeaders: { a: 'b' } });
    write('run/containers/auth.json', { auths: { 'a.org': auth('podman', '2'), 'b.org/team': auth('team', '3') } });
    const credentials = source();
    expect(await credentials.find('a.org')).toMatchObject({ username: 'docker' });
    expect(await credentials.find('b.org', 'team/app')).toMatchObject({ username: 'team' });
    expect(await credentials.find('b.org', 'other/app')).toBeUndefined();
    expect(await credentials.find('c.org')).toBeUndefined();
  });

  test('comes from a helper, which is given the server on its standard input', async () => {
    helper(
      'store',
      `read -r server; printf '{"ServerURL":"%s","Username":"%s %s","Secret":"s"}' "$server" "$1" "$server"`,
    );
    helper('other', `printf '{"Username":"<token>","Secret":"refresh"}'`);
    write('.docker/config.json', {
      credsStore: 'store',
      credHelpers: { 'b.org': 'other', 'c.org': '' },
      auths: { 'c.org': auth('c', '1') },
    });
    const credentials = source();
    expect(await credentials.find('docker.io', 'library/nginx')).toEqual({
      kind: 'password',
      username: 'get https://index.docker.io/v1/',
      password: 's',
    });
    expect(await credentials.find('b.org')).toEqual({ kind: 'identity', token: 'refresh' });
    expect(await credentials.find('c.org')).toMatchObject({ username: 'c' });
  });

  test('is nothing when the helper says that it has nothing', async () => {
    helper('none', `echo 'credentials not found in native keychain'; exit 1`);
    write('.docker/config.json', { credsStore: 'none' });
    expect(await source().find('a.org')).toBeUndefined();
  });

  test.each([
    ['is missing', undefined, /not installed/],
    ['fails', 'echo "the keyring is locked" >&2; exit 3', /failed/],
    ['says something else', 'echo hello', /failed/],
    ['says too little', 'echo "{}"', /failed/],
  ])('is an error when the helper %s', async (_, script, message) => {
    if (script !== undefined) helper('bad', script);
    write('.docker/config.json', { credsStore: 'bad' });
    await expect(source().find('a.org')).rejects.toMatchObject({
      code: 'TSV_REGISTRY_LOGIN',
      message: expect.stringMatching(message),
    });
  });

  test('is an error when the helper does not end, and what it has started ends', async () => {
    helper('slow', 'sleep 3600 & echo $! > "$(dirname "$0")/pid"; wait');
    write('.docker/config.json', { credsStore: 'slow' });
    await expect(source(1500).find('a.org')).rejects.toMatchObject({
      code: 'TSV_REGISTRY_LOGIN',
      details: [expect.stringContaining('did not answer within 1.5 s'), expect.any(String)],
    });
    const started = readFileSync(join(dir, 'bin/pid'), 'utf8').trim();
    await until("the helper's own program has ended", () => !/^State:\s+[^Z]/m.test(statusOf(started)));
  });

  test('is given up with the command', async () => {
    const command = new AbortController();
    helper('waiting', 'sleep 3600');
    write('.docker/config.json', { credsStore: 'waiting' });
    const found = source(undefined, command.signal).find('a.org');
    command.abort();
    await expect(found).rejects.toMatchObject({ code: 'TSV_CANCELLED' });
  });

  test('never makes a path of the name of a helper', async () => {
    for (const name of ['../../bin/sh', 'a b', '-x']) {
      write('.docker/config.json', { credsStore: name });
      await expect(source().find('a.org')).rejects.toMatchObject({ code: 'TSV_REGISTRY_LOGIN' });
    }
  });
});
