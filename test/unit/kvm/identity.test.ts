import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import ssh2 from 'ssh2';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { credentials, identityFiles, writeCredentials } from '../../../providers/kvm/credentials.ts';
import { asUuid, ensureIdentity, type Identity, loginKeyFile, readIdentity } from '../../../src/ssh/identity.ts';

let root: string;
let dir: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'tsv-identity-'));
  dir = join(root, 'identity');
});
afterEach(() => rmSync(root, { recursive: true }));

describe('the identity of a machine', () => {
  test('has two different key pairs that an SSH client can read', () => {
    const { login, host } = ensureIdentity(dir, 'tsv shop/db');
    const blobs = [login, host].map(({ privateKey, publicKey }) => {
      const [secret, open] = [privateKey, publicKey].map((text) => {
        const key = ssh2.utils.parseKey(text);
        if (key instanceof Error) throw key;
        return key;
      });
      expect(secret?.type).toBe('ssh-ed25519');
      expect(secret?.isPrivateKey()).toBe(true);
      expect(secret?.getPublicSSH()).toEqual(open?.getPublicSSH());
      return secret?.getPublicSSH().toString('hex');
    });
    expect(blobs[0]).not.toBe(blobs[1]);
  });

  test('lies in files that only their owner can read', () => {
    ensureIdentity(dir, 'x');
    expect(statSync(dir).mode & 0o777).toBe(0o700);
    const modes = readdirSync(dir).map((name) => [name, statSync(join(dir, name)).mode & 0o777]);
    expect(modes).toEqual(
      ['host_ed25519', 'host_ed25519.pub', 'login_ed25519', 'login_ed25519.pub', 'machine-id'].map((name) => [
        name,
        0o600,
      ]),
    );
    expect(readFileSync(loginKeyFile(dir), 'utf8')).toBe(readIdentity(dir).login.privateKey);
  });

  test('stays the same for the same machine and differs from the next one (S46)', () => {
    const first = ensureIdentity(dir, 'x');
    expect(ensureIdentity(dir, 'x')).toEqual(first);
    const second = ensureIdentity(join(root, 'other'), 'x');
    expect(second.machineId).not.toBe(first.machineId);
    expect(second.login.publicKey).not.toBe(first.login.publicKey);
    expect(second.host.publicKey).not.toBe(first.host.publicKey);
  });

  test('has a machine-id that is a version 4 UUID too', () => {
    const { machineId } = ensureIdentity(dir, 'x');
    expect(machineId).toMatch(/^[0-9a-f]{32}$/);
    expect(asUuid(machineId)).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });

  test('is made anew over what an interrupted try left', () => {
    ensureIdentity(`${dir}.new`, 'half');
    const { host } = ensureIdentity(dir, 'whole');
    expect(host.publicKey).toMatch(/ whole$/);
    expect(readdirSync(root)).toEqual(['identity']);
  });

  test('S52 is refused when a key is a link or open to others', () => {
    ensureIdentity(dir, 'x');
    chmodSync(loginKeyFile(dir), 0o644);
    expect(() => readIdentity(dir)).toThrow(expect.objectContaining({ code: 'TSV_STATE_UNSAFE' }));
    rmSync(loginKeyFile(dir));
    writeFileSync(join(root, 'elsewhere'), 'x', { mode: 0o600 });
    symlinkSync(join(root, 'elsewhere'), loginKeyFile(dir));
    expect(() => readIdentity(dir)).toThrow(expect.objectContaining({ code: 'TSV_STATE_UNSAFE' }));
  });
});

describe('credentials', () => {
  const credentialsOf = (identity: Identity) =>
    credentials(identityFiles(identity, 'tsv', 'web-1', { search: 'shop', nameServers: ['10.77.0.1'] }));

  const lineOf = (text: string, path: string) => text.split('\n').find((line) => line.split(' ')[1] === path);
  const content = (line: string | undefined) => Buffer.from(line?.split(' ')[6] ?? '', 'base64').toString();

  test('place the host key and the login key of root and of the ordinary user', () => {
    const identity = ensureIdentity(dir, 'x');
    const [extra] = credentialsOf(identity);
    expect(extra?.name).toBe('tmpfiles.extra');
    const text = extra?.value ?? '';
    const hostKey = lineOf(text, '/etc/ssh/ssh_host_ed25519_key');
    expect(hostKey).toMatch(/^f\+~ \S+ 0600 root root - /);
    expect(content(hostKey)).toBe(identity.host.privateKey);
    expect(content(lineOf(text, '/root/.ssh/authorized_keys'))).toBe(`${identity.login.publicKey}\n`);
    expect(lineOf(text, '/home/tsv/.ssh/authorized_keys')).toMatch(/^f\+~ \S+ 0600 tsv tsv - /);
  });

  test('give the machine its host name, which finds itself', () => {
    const text = credentialsOf(ensureIdentity(dir, 'x'))[0]?.value ?? '';
    expect(content(lineOf(text, '/etc/hostname'))).toBe('web-1\n');
    expect(content(lineOf(text, '/etc/hosts'))).toContain('127.0.1.1\tweb-1\n');
  });

  test('never hold the private login key', () => {
    const identity = ensureIdentity(dir, 'x');
    const decoded = credentialsOf(identity).flatMap(({ value }) => value.split('\n').map((line) => content(line)));
    expect(decoded.filter((text) => text.includes(identity.login.privateKey.split('\n')[3] ?? '?'))).toEqual([]);
  });

  test('become files of one SMBIOS string each, readable by their owner only', () => {
    const folder = join(root, 'credentials');
    writeCredentials(folder, [{ name: 'stale', value: 'x' }]);
    const files = writeCredentials(folder, [{ name: 'some.name', value: 'a\nb' }]);
    expect(files).toEqual([join(folder, 'some.name')]);
    expect(readdirSync(folder)).toEqual(['some.name']);
    expect(readFileSync(join(folder, 'some.name'), 'utf8')).toBe('io.systemd.credential.binary:some.name=YQpi');
    expect(statSync(join(folder, 'some.name')).mode & 0o777).toBe(0o600);
  });
});
