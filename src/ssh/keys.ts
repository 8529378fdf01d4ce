import { createHash, createPrivateKey, createPublicKey, randomBytes } from 'node:crypto';
import { TsvError } from '../model/errors.ts';

/** An ed25519 key pair in OpenSSH's formats. */
export interface KeyPair {
  /** PEM text (`BEGIN OPENSSH PRIVATE KEY`, without a passphrase), ends with a newline. */
  readonly privateKey: string;
  /** One line `ssh-ed25519 AAAA… comment`, without a newline. */
  readonly publicKey: string;
}

const type = 'ssh-ed25519';

/** `string` of RFC 4251, section 5: length and bytes. */
function string(value: Buffer | string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([uint32(bytes.length), bytes]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** What stands before the seed in a PKCS #8 ed25519 key (RFC 8410, section 7), and how much ends its public half. */
const pkcs8 = Buffer.from('302e020100300506032b657004220420', 'hex');
const pointBytes = 32;

/**
 * A fresh key pair, for a login or for a host. Format: PROTOCOL.key of OpenSSH; key blob: RFC 8709. A seed is any 32 random bytes
 * (RFC 8032, section 5.1.5). Not by Node's generateKeyPair: when its garbage is collected in the moment in which the key is
 * exported, Node 20 waits for a lock that it has itself, for ever.
 */
export function generateKeyPair(comment: string): KeyPair {
  const seed = randomBytes(32);
  const key = createPrivateKey({ key: Buffer.concat([pkcs8, seed]), format: 'der', type: 'pkcs8' });
  const point = createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-pointBytes);
  const blob = Buffer.concat([string(type), string(point)]);
  const check = randomBytes(4);
  const secret = Buffer.concat([
    check,
    check,
    string(type),
    string(point),
    string(Buffer.concat([seed, point])),
    string(comment),
  ]);
  // Padded with 1, 2, 3, … to the block size of cipher "none", which is 8.
  const padding = Buffer.from(Array.from({ length: (8 - (secret.length % 8)) % 8 }, (_, i) => i + 1));
  const file = Buffer.concat([
    Buffer.from('openssh-key-v1\0'),
    string('none'),
    string('none'),
    string(''),
    uint32(1),
    string(blob),
    string(Buffer.concat([secret, padding])),
  ]);
  const body = file.toString('base64').replace(/.{70}/g, '$&\n').trimEnd();
  return {
    privateKey: `-----BEGIN OPENSSH PRIVATE KEY-----\n${body}\n-----END OPENSSH PRIVATE KEY-----\n`,
    publicKey: `${type} ${blob.toString('base64')}${comment === '' ? '' : ` ${comment}`}`,
  };
}

/** The type and the key blob of a public key line. @throws TSV_SSH when it is no such line. */
export function parsePublicKey(line: string): { readonly type: string; readonly blob: Buffer } {
  const [name = '', base64 = ''] = line.trim().split(/\s+/);
  const blob = Buffer.from(base64, 'base64');
  const length = blob.length >= 4 ? blob.readUInt32BE() : -1;
  if (name === '' || blob.toString('latin1', 4, 4 + length) !== name) {
    throw new TsvError('TSV_SSH', 'not a public key of OpenSSH', { details: [line.slice(0, 100)] });
  }
  return { type: name, blob };
}

/** `SHA256:…` as ssh-keygen -l prints it. Takes a public key line or its blob. */
export function fingerprint(key: string | Buffer): string {
  const blob = typeof key === 'string' ? parsePublicKey(key).blob : key;
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`;
}

/** A line of known_hosts (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT), ends with a newline. */
export function knownHostsLine(names: readonly string[], publicKey: string): string {
  const { type, blob } = parsePublicKey(publicKey);
  return `${names.join(',')} ${type} ${blob.toString('base64')}\n`;
}
