import { Readable, Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import type { ExecSession } from '../../src/model/provider.ts';
import type { Console } from './console.ts';

/** So much output waits for a reader who is slower than the machine; more is left out, which its errors say. */
const waitingBytes = 4 << 20;

/**
 * A console, both ways, for one of those who are attached to it: all of them see the same output, from now on, and what each
 * of them types goes to the machine. `exited`: the machine has ended, or any signal has ended the session.
 * @param ended fires when the machine is gone
 */
export function consoleSession(console: Console, ended: Promise<unknown>): ExecSession {
  const stdout = new Readable({ read() {} });
  const stderr = new Readable({ read() {} });
  let leftOut = 0;
  const endFollowing = console.follow((data) => {
    if (stdout.readableLength > waitingBytes) {
      leftOut += data.length;
      return;
    }
    if (leftOut > 0) stderr.push(`\r\n[${leftOut} bytes of output are left out here: they came too fast]\r\n`);
    leftOut = 0;
    stdout.push(data);
  });
  const stdin = new Writable({ write: (data: Buffer, _, done) => console.write(data, done) });
  stdin.on('error', () => {}); // the machine is gone, which ends the session
  // The machine may be gone a moment before its last words have come.
  void Promise.all([ended, console.closed]).then(() => {
    endFollowing();
    stdout.push(null);
    stderr.push(null);
  });
  return {
    stdin,
    stdout,
    stderr,
    resize: () => {}, // a serial line has no size
    signal: () => {
      endFollowing();
      for (const stream of [stdin, stdout, stderr]) stream.destroy();
    },
    exited: finished(stdout).then(
      () => ({ code: 0 }),
      () => ({ code: 0 }), // destroyed by `signal`
    ),
  };
}
