import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { connect } from 'node:net';
import type { Dialler, Launcher } from '../../src/model/launch.ts';
import { waitExit } from '../../src/sys/children.ts';
import { isAlive, processRef } from '../../src/sys/process.ts';

/** Starts programs detached in the host's own network namespace, whatever `net` says. For tests without a sandbox. */
export function hostLauncher(): Launcher {
  return {
    async launch({ argv, env, cwd, logFile }) {
      const [file = '', ...args] = argv;
      const output = openSync(logFile ?? '/dev/null', 'a', 0o600);
      try {
        const child = spawn(file, args, {
          detached: true,
          stdio: ['ignore', output, output],
          ...(env === undefined ? {} : { env: { ...env } }),
          ...(cwd === undefined ? {} : { cwd }),
        });
        await new Promise((resolve, reject) => child.once('spawn', resolve).once('error', reject));
        child.unref();
        const ref = child.pid === undefined ? undefined : processRef(child.pid);
        if (ref === undefined) throw new Error(`${file} ended at once`);
        return ref;
      } finally {
        closeSync(output);
      }
    },
    async exited(process) {
      if (isAlive(process)) await waitExit(process.pid);
    },
    kill(ref, signal) {
      return isAlive(ref) && process.kill(ref.pid, signal);
    },
  };
}

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
