import { timingSafeEqual } from 'node:crypto';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { AuthContext, Connection, ServerChannel, TcpipRequestInfo } from 'ssh2';
import type { Transport } from '../model/provider.ts';
import { channelOf, onEndOfWrite } from './eow.ts';
import { parsePublicKey } from './keys.ts';
import { copy, quick } from './pump.ts';
import { type ServedSession, serveSession } from './server-session.ts';

export interface ContainerSshServerOptions {
  /** OpenSSH private key of the machine's host key. */
  readonly hostKey: string | Buffer;
  /** The one public key line that may log in. */
  readonly authorizedKey: string;
  /** The way into the running container. */
  readonly transport: Transport;
  /** The user of a login whose name is empty. */
  readonly defaultUser: string;
}

export interface ContainerSshServer {
  /**
   * Serves one SSH connection over a byte stream and resolves when it is over. Never rejects: a client that breaks
   * the protocol, or does not log in within 30 s, loses its connection.
   */
  accept(stream: Duplex): Promise<void>;
}

const loginGraceMs = 30_000;

/**
 * An SSH server for a container that has none: sessions run through the container's transport, as the user named
 * by the login. It offers commands, login shells, terminals, the container's own sftp-server, and connections to
 * ports of the container (`ssh -L`, `-D`, `-W`); no other forwarding, no passwords.
 */
export async function createContainerSshServer(options: ContainerSshServerOptions): Promise<ContainerSshServer> {
  const { default: ssh2 } = await import('ssh2');
  const allowed = parsePublicKey(options.authorizedKey);
  const verifier = ssh2.utils.parseKey(options.authorizedKey);
  if (verifier instanceof Error) throw verifier;

  const mayLogIn = (context: AuthContext): boolean => {
    if (context.method !== 'publickey' || !sameBytes(context.key.data, allowed.blob)) return false;
    if (context.signature === undefined) return true; // "would this key do?": yes, now sign with it
    return context.blob !== undefined && verifier.verify(context.blob, context.signature, context.hashAlgo) === true;
  };

  return {
    accept(stream) {
      // A server object per connection ties the stream to its client; it costs less than the key exchange.
      const server = new ssh2.Server({
        hostKeys: [options.hostKey],
        // OpenSSH's clients say `eow@openssh.com` only to what calls itself OpenSSH (compat.c): see eow.ts.
        ident: 'OpenSSH_tsv',
        // The stream is local: its end is seen at once, and a client stopped with Ctrl-Z must stay connected.
        keepaliveInterval: 0x7fffffff,
        // In JavaScript, chacha20-poly1305 is many times slower than AES of OpenSSL; clients would prefer it.
        algorithms: {
          cipher: ['aes128-gcm@openssh.com', 'aes256-gcm@openssh.com', 'aes128-ctr', 'aes192-ctr', 'aes256-ctr'],
        },
      });
      const grace = setTimeout(() => stream.destroy(), loginGraceMs);
      server.on('connection', (client) => {
        let user = options.defaultUser;
        client.on('error', () => {}); // 'close' follows
        client.on('authentication', (context) => {
          if (context.username !== '') user = context.username;
          if (mayLogIn(context)) context.accept();
          else context.reject(['publickey']);
        });
        client.once('ready', () => {
          clearTimeout(grace);
          serve(client, user, options.transport);
        });
      });
      return new Promise((resolve) => {
        stream.once('close', () => {
          clearTimeout(grace);
          resolve();
        });
        // ssh2 ends its side when the client leaves; a stream that allows half-open would stay.
        stream.once('end', () => stream.end());
        quick(stream);
        server.injectSocket(stream as Socket); // any Duplex does: only its stream side is used
      });
    },
  };
}

function sameBytes(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

function serve(client: Connection, user: string, transport: Transport): void {
  const sessions = new Map<number, ServedSession>();
  client.on('session', (accept) => {
    const session = accept();
    const channel = channelOf(session);
    const served = serveSession(session, user, transport, () => sessions.delete(channel));
    sessions.set(channel, served);
  });
  onEndOfWrite(client, (channel) => sessions.get(channel)?.closeOutput());
  client.once('close', () => {
    for (const session of sessions.values()) session.hangUp();
  });
  client.on('tcpip', (accept, reject, request) => {
    if (!isLocal(request)) return reject();
    transport.dial(request.destPort).then(
      (remote) => join(accept(), remote),
      () => reject(),
    );
  });
}

/** Only the machine itself is reached through its SSH server. */
function isLocal({ destIP }: TcpipRequestInfo): boolean {
  return destIP === 'localhost' || destIP === '::1' || /^127\.\d+\.\d+\.\d+$/.test(destIP);
}

/** Both directions of a TCP connection; each may end alone (half-close). */
function join(channel: ServerChannel | undefined, remote: Duplex): void {
  if (channel === undefined) return void remote.destroy(); // the client left while we dialled
  const outward = copy(remote, channel).then(() => channel.eof());
  const inward = copy(channel, remote).then(() => remote.end());
  remote.on('error', () => channel.close());
  channel.on('error', () => {});
  channel.once('close', () => remote.destroy());
  Promise.all([outward, inward]).then(
    () => channel.close(),
    () => {
      channel.close();
      remote.destroy();
    },
  );
}
