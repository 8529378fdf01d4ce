import { constants } from 'node:os';
import { openStream } from '../agent/client.ts';
import { machineAgent } from '../app/machine.ts';
import { DetachKeys } from './detach-keys.ts';
import type { Session } from './program.ts';
import { passInput, passTerminal, printOutput, signals } from './stream.ts';

/**
 * Joins this process's input and output with a virtual machine's console. On a terminal all keys go there, but for those that
 * detach. @returns the machine's exit code, 0 after detaching, or that of a signal that we got
 */
export async function attachConsole(session: Session, name: string, keys: Buffer): Promise<number> {
  const agent = await machineAgent(session.place, name);
  const { socket, rest } = await openStream(agent, { do: 'attach', machine: name }, session.commandLine);
  const terminal = session.stdin.isTTY;
  let detach = (_code: number): void => {};
  const detached = new Promise<number>((resolve) => {
    detach = resolve;
  });
  const detachKeys = new DetachKeys(keys);
  const filter = (typed: Buffer): Buffer => {
    const { send, detached: found } = detachKeys.take(typed);
    if (found) detach(0);
    return send;
  };
  // Without them the terminal would stay as it is set below.
  const onSignal = (signal: NodeJS.Signals) => detach(128 + constants.signals[signal]);
  for (const signal of signals) process.on(signal, onSignal);
  if (terminal) session.stderr.write(`Attached to the console of ${name}; Enter shows where it is.\n`);
  const leaveInput = terminal ? passTerminal(session, agent, filter) : passInput(session, agent);
  try {
    const output = printOutput(session, socket, rest, name).then((code) => ({ code, words: `${name} has ended` }));
    const { code, words } = await Promise.race([output, detached.then((code) => ({ code, words: 'Detached' }))]);
    if (terminal) session.stderr.write(`\n${words}.\n`); // raw is what is typed; what is shown is not
    return code;
  } finally {
    leaveInput();
    for (const signal of signals) process.off(signal, onSignal);
    socket.pause();
    // It goes with this process.
    agent.unref();
  }
}
