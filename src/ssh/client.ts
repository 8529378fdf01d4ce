import type { Duplex, Readable } from 'node:stream';
import type { ServerHostKeyAlgorithm } from 'ssh2';
import { TsvError } from '../model/errors.ts';
import type { Transport } from '../model/provider.ts';
import { fingerprint, parsePublicKey } from './keys.ts';
import { quick } from './pump.ts';
import { SshTransport } from './transport.ts';

export interface SshTarget {
  /** Makes the byte stream to the SSH server, e.g. a TCP connection inside the sandbox. */
  readonly open: () => Promise<Duplex>;
  readonly username: string;
  /** OpenSSH private key, without a passphrase. */
  readonly privateKey: string | Buffer;
  /** The pinned host key: a public key line. */
  readonly hostKey: string;
  /** For the whole way to a usable connection. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** A guest that says nothing for 4 x 10 s is dead. */
const keepalive = { keepaliveInterval: 10_000, keepaliveCountMax: 3 };

/**
 * One SSH connection, used for everything that is done in the machine: many programs, files and TCP connections
 * at once. More than seven programs wait their turn. `closed` resolves when the connection is gone.
 * @throws TSV_SSH when there is no connection in time or the key is refused, TSV_HOST_KEY when the server's key
 * is not the pinned one, TSV_CANCELLED when `signal` fires first.
 */
export async function connectSsh(target: SshTarget): Promise<Transport> {
  const pinned = parsePublicKey(target.hostKey);
  const deadline = AbortSignal.timeout(target.timeoutMs);
  const stream = await openStream(target, deadline);
  quick(stream);
  const { default: ssh2 } = await import('ssh2');
  const client = new ssh2.Client();
  let shown: Buffer | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      const fail = (error: unknown) => reject(handshakeError(error, target, pinned, shown));
      const onTimeout = () => fail(new Error(`no answer within ${target.timeoutMs / 1000} s`));
      const onAbort = () => reject(cancelled());
      deadline.addEventListener('abort', onTimeout, { once: true });
      target.signal.addEventListener('abort', onAbort, { once: true });
      // The first import of ssh2 takes a while: either may have fired meanwhile.
      if (target.signal.aborted) return onAbort();
      if (deadline.aborted) return onTimeout();
      const settled = () => {
        deadline.removeEventListener('abort', onTimeout);
        target.signal.removeEventListener('abort', onAbort);
      };
      client.once('ready', () => {
        settled();
        resolve();
      });
      client.on('error', (error) => {
        settled();
        fail(error);
      });
      client.once('close', () => {
        settled();
        fail(new Error('the connection was closed'));
      });
      client.connect({
        sock: stream as unknown as Readable,
        username: target.username,
        privateKey: target.privateKey,
        readyTimeout: 0,
        authHandler: ['publickey'], // it would ask for none first: a round trip more
        ...keepalive,
        // Only the pinned type: a server with several host keys would else show another one.
        algorithms: { serverHostKey: [pinned.type as ServerHostKeyAlgorithm] },
        hostVerifier: (key: Buffer) => {
          shown = key;
          return key.equals(pinned.blob);
        },
      });
    });
  } catch (error) {
    client.destroy();
    stream.destroy();
    throw error;
  }
  return new SshTransport(client, stream, target.username);
}

async function openStream(target: SshTarget, deadline: AbortSignal): Promise<Duplex> {
  target.signal.throwIfAborted();
  const opening = target.open();
  let stop = () => {};
  const stopped = new Promise<never>((_, reject) => {
    const onTimeout = () => reject(new TsvError('TSV_SSH', `no connection within ${target.timeoutMs / 1000} s`));
    const onAbort = () => reject(cancelled());
    deadline.addEventListener('abort', onTimeout, { once: true });
    target.signal.addEventListener('abort', onAbort, { once: true });
    stop = () => {
      deadline.removeEventListener('abort', onTimeout);
      target.signal.removeEventListener('abort', onAbort);
    };
  });
  try {
    return await Promise.race([opening, stopped]);
  } catch (error) {
    opening.then((stream) => stream.destroy()).catch(() => {});
    if (error instanceof TsvError) throw error;
    throw new TsvError('TSV_SSH', 'no connection to the SSH server of the machine', {
      details: [messageOf(error)],
      cause: error,
    });
  } finally {
    stop();
  }
}

const cancelled = (): TsvError => new TsvError('TSV_CANCELLED', 'connecting was interrupted', { exitCode: 130 });
const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

function handshakeError(
  error: unknown,
  target: SshTarget,
  pinned: { type: string; blob: Buffer },
  shown: Buffer | undefined,
): TsvError {
  if (shown !== undefined && !shown.equals(pinned.blob)) {
    return new TsvError('TSV_HOST_KEY', 'the machine shows another host key than the one it was made with', {
      details: [`pinned: ${pinned.type} ${fingerprint(pinned.blob)}`, `shown:  ${fingerprint(shown)}`],
      hint: 'nothing was sent to it. If its key was changed on purpose, make the machine anew: tsv destroy NAME, then tsv up NAME',
      cause: error,
    });
  }
  const message = messageOf(error);
  if (/no matching host key/i.test(message)) {
    return new TsvError('TSV_HOST_KEY', `the machine shows no host key of the pinned type ${pinned.type}`, {
      details: [`pinned: ${pinned.type} ${fingerprint(pinned.blob)}`, message],
      hint: 'nothing was sent to it. If its keys were changed on purpose, make the machine anew: tsv destroy NAME, then tsv up NAME',
      cause: error,
    });
  }
  if ((error as { level?: string }).level === 'client-authentication') {
    return new TsvError('TSV_SSH', `the machine does not let ${target.username} in with the project's key`, {
      details: [message],
      hint: `look at ~${target.username}/.ssh/authorized_keys in the machine, and at its console: tsv logs NAME`,
      cause: error,
    });
  }
  return new TsvError('TSV_SSH', 'the SSH handshake with the machine failed', { details: [message], cause: error });
}
