import type { Connection, Session } from 'ssh2';

type Handler = (protocol: unknown, channel: number, type: string, ...rest: unknown[]) => void;

/**
 * Tells when a client wants no more output of a session, e.g. `ssh web yes | head`: `eow@openssh.com` of OpenSSH's
 * PROTOCOL file, 2.1. Without it the program would run on for ever, its output dropped by the client. ssh2 1.17 does
 * not know the request, so it is taken out in front of it.
 */
export function onEndOfWrite(client: Connection, listener: (channel: number) => void): void {
  const { _handlers: handlers } = (client as unknown as { _protocol: { _handlers: { CHANNEL_REQUEST: Handler } } })
    ._protocol;
  const others = handlers.CHANNEL_REQUEST;
  handlers.CHANNEL_REQUEST = (protocol, channel, type, ...rest) => {
    if (type === 'eow@openssh.com') listener(channel);
    else others(protocol, channel, type, ...rest);
  };
}

/** The number by which the client's requests name a session. */
export const channelOf = (session: Session): number =>
  (session as unknown as { _chanInfo: { incoming: { id: number } } })._chanInfo.incoming.id;
