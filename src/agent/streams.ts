import type { Socket } from 'node:net';
import { toTsvError } from '../model/errors.ts';
import type { ExecSession } from '../model/provider.ts';
import { couple } from '../net/forwards.ts';
import { encodeFrame, type FrameType, frame, frameReader } from './protocol.ts';
import type { Service } from './service.ts';

type TakeRest = (handler: (rest: Buffer) => void) => void;

/** Couples a client with what it lets run, such as a command in a machine; see protocol.ts for the frames. */
export async function serveSession<Session extends ExecSession>(
  socket: Socket,
  open: () => Promise<Session>,
  started: (session: Session) => void,
  takeRest: TakeRest,
): Promise<void> {
  const session = await open();
  started(session);
  const send = (type: FrameType, content?: Buffer | string) =>
    !socket.writable || socket.write(encodeFrame(type, content));
  const read = frameReader((type, content) => onFrame(session, type, content, socket));
  takeRest(read);
  const onData = (chunk: Buffer): void => {
    try {
      read(chunk);
    } catch {
      socket.destroy(); // not our protocol
    }
  };
  socket.on('data', onData);
  // A client that goes away takes its command along, as a terminal does. The end of its input alone is a frame.
  socket.on('end', () => {
    session.stdin.end();
    session.signal('HUP');
  });
  socket.on('close', () => {
    session.signal('HUP');
    // What it still prints is for nobody; unread, it would be waited for.
    for (const stream of [session.stdout, session.stderr]) stream.resume();
  });
  socket.resume();
  for (const [stream, type] of [
    [session.stdout, frame.stdout],
    [session.stderr, frame.stderr],
  ] as const) {
    stream.on('data', (chunk: Buffer) => {
      if (send(type, chunk)) return;
      stream.pause();
      socket.once('drain', () => stream.resume());
    });
  }
  try {
    const result = await session.exited;
    send(frame.exit, JSON.stringify(result));
  } catch (error) {
    send(frame.error, JSON.stringify(toTsvError(error).toJSON()));
  }
  socket.end();
  // What it still says is for nobody; unread, it would keep the connection.
  socket.off('data', onData);
  socket.resume();
}

function onFrame(session: ExecSession, type: number, content: Buffer, socket: Socket): void {
  switch (type) {
    case frame.stdin:
      // Copied: the frame is a view of a buffer that is used again.
      if (!session.stdin.write(Buffer.from(content))) {
        socket.pause();
        session.stdin.once('drain', () => socket.resume());
      }
      return;
    case frame.eof:
      session.stdin.end();
      return;
    case frame.resize: {
      const { cols, rows } = JSON.parse(content.toString('utf8')) as { cols: number; rows: number };
      session.resize(cols, rows);
      return;
    }
    case frame.signal:
      session.signal(content.toString('utf8'));
      return;
    default:
      throw new Error(`unknown frame ${type}`);
  }
}

/** Joins a client's connection with the machine's SSH server. */
export async function serveConnect(
  socket: Socket,
  service: Service,
  machine: string,
  signal: AbortSignal,
  started: () => void,
  takeRest: TakeRest,
): Promise<void> {
  const target = await service.openSsh(machine, signal);
  started();
  if (target.type === 'serve') {
    takeRest((rest) => socket.unshift(rest));
    await target.accept(socket);
    socket.end();
    return;
  }
  takeRest((rest) => target.stream.write(rest));
  couple(socket, target.stream);
  socket.resume();
}
