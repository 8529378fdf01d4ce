import { openStream } from '../../agent/client.ts';
import { machineAgent } from '../../app/machine.ts';
import type { Handler } from '../program.ts';

/** ProxyCommand of `tsv ssh-config`: standard input and output become a connection to the machine's SSH server. */
export const sshProxy: Handler<object> = async (session, [name = '']) => {
  const agent = await machineAgent(session.place, name);
  const { socket, rest } = await openStream(agent, { do: 'connect', machine: name }, session.commandLine);
  session.stdout.write(rest);
  await new Promise<void>((resolve) => {
    socket.on('close', () => resolve());
    socket.on('end', () => session.stdout.end(() => socket.destroy()));
    session.stdout.on('error', () => socket.destroy());
    socket.pipe(session.stdout, { end: false });
    session.stdin.pipe(socket);
  });
  session.stdin.unref?.();
  return 0;
};
