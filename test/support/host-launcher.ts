import { connect } from 'node:net';
import type { Dialler, Jail, Launcher } from '../../src/model/launch.ts';
import { launchProcess, waitExit } from '../../src/sys/children.ts';
import { isAlive } from '../../src/sys/process.ts';

/** Starts programs detached in the host's own network namespace, whatever `net` says. For tests without a sandbox. */
export function hostLauncher(): Launcher {
  return {
    launch: ({ exitDir: _, jail, ...request }) =>
      // What lies in another mount namespace (small-disk.ts) cannot be mounted in a third one.
      launchProcess({ ...request, ...(jail === undefined || isElsewhere(jail) ? {} : { jail }) }, {}),
    async exited(process) {
      if (isAlive(process)) await waitExit(process.pid);
    },
    kill(ref, signal) {
      return isAlive(ref) && process.kill(ref.pid, signal);
    },
  };
}

const isElsewhere = ({ mounts }: Jail): boolean => mounts.some(({ from }) => from.startsWith('/proc/'));

/** Dials 127.0.0.1 instead of the machine, at the port that `ports` gives for the machine's port. */
export function loopbackDialler(ports: Readonly<Record<number, number>>): Dialler {
  return {
    dial: (_host, port, { timeoutMs = 5000 } = {}) =>
      new Promise((resolve, reject) => {
        const socket = connect({ host: '127.0.0.1', port: ports[port] ?? 1 });
        const fail = (error: Error) => {
          socket.destroy();
          reject(error);
        };
        socket.setTimeout(timeoutMs, () => fail(new Error('no answer')));
        socket.once('error', fail).once('connect', () => {
          socket.setTimeout(0);
          socket.off('error', fail);
          resolve(socket);
        });
      }),
  };
}
