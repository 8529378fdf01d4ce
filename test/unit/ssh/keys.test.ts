import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import ssh2 from 'ssh2';
import { afterAll, describe, expect, it } from 'vitest';
import { fingerprint, generateKeyPair, knownHostsLine, parsePublicKey } from '../../../src/ssh/keys.ts';
import { has, runWith } from './container.ts';

const dir = mkdtempSync(join(tmpdir(), 'tsv-keys-'));
afterAll(() => rmSync(dir, { recursive: true }));

describe('key pairs', () => {
  it.each(['', 'web-1@shop', 'a longer comment with spaces'])('are read by ssh2 with the comment %j', (comment) => {
    const pair = generateKeyPair(comment);
    const key = ssh2.utils.parseKey(pair.privateKey);
    const pub = ssh2.utils.parseKey(pair.publicKey);
    if (key instanceof Error) throw key;
    if (pub instanceof Error) throw pub;
    expect(key.comment).toBe(comment);
    expect(key.getPublicSSH()).toEqual(parsePublicKey(pair.publicKey).blob);
    const data = Buffer.from('signed');
    expect(pub.verify(data, key.sign(data))).toBe(true);
  });

  it('are made however often garbage is collected meanwhile', async () => {
    const file = join(dir, 'many.mjs');
    const source = `import { generateKeyPair } from './keys.ts';
for (let i = 0; i < 6000; i++) generateKeyPair('');`;
    const resolveDir = join(import.meta.dirname, '../../../src/ssh');
    await build({
      ...{ stdin: { contents: source, resolveDir }, outfile: file },
      ...{ bundle: true, platform: 'node', format: 'esm' },
    });
    // So little room for what is new that hardly a key is made without a collection. One that hangs is ended.
    const run = promisify(execFile);
    await run(process.execPath, ['--max-semi-space-size=1', file], { timeout: 20_000, killSignal: 'SIGKILL' });
  });

  it('differ from one to the next', () => {
    expect(generateKeyPair('').publicKey).not.toBe(generateKeyPair('').publicKey);
  });

  it.skipIf(!has('ssh-keygen'))('are what ssh-keygen reads: public half, comment and fingerprint', async () => {
    for (let i = 0; i < 8; i++) {
      const pair = generateKeyPair('x'.repeat(i)); // every length of padding
      const file = join(dir, `id${i}`);
      writeFileSync(file, pair.privateKey, { mode: 0o600 });
      writeFileSync(`${file}.pub`, `${pair.publicKey}\n`);
      const derived = await runWith(['ssh-keygen', '-y', '-f', file]);
      expect(derived.stdout.toString().trim()).toBe(pair.publicKey);
      const listed = await runWith(['ssh-keygen', '-l', '-f', `${file}.pub`]);
      expect(listed.stdout.toString()).toContain(fingerprint(pair.publicKey));
    }
  });

  it.skipIf(!has('ssh-keygen'))('are found by ssh-keygen -F in the known_hosts line', async () => {
    const { publicKey } = generateKeyPair('c');
    const file = join(dir, 'known_hosts');
    writeFileSync(file, knownHostsLine(['web-1.shop', 'web-1'], publicKey));
    const found = await runWith(['ssh-keygen', '-F', 'web-1', '-f', file]);
    expect(found.stdout.toString()).toContain(publicKey.split(' ')[1]);
  });

  it('that are none are refused', () => {
    for (const line of ['', 'ssh-ed25519', 'ssh-ed25519 AAAA', 'ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIA==', 'hello world']) {
      expect(() => parsePublicKey(line)).toThrow('not a public key');
    }
  });
});
