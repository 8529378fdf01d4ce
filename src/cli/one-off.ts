import { constants } from 'node:os';
import { encodeFrame, frame } from '../agent/protocol.ts';
import type { OneOff } from '../app/one-off.ts';
import { TsvError } from '../model/errors.ts';
import type { Session } from './program.ts';
import { passInput, passTerminal, printOutput, signals } from './stream.ts';

/**
 * Joins this process's input, output and terminal with a command in a container of its own, and passes on a signal; at a second
 * one, we leave, and the agent ends the container. @returns the command's exit code
 * @throws TSV_AGENT when the agent was killed; the container has been removed then, too
 */
export async function joinOneOff(
  session: Session,
  { socket, rest, clearUp }: OneOff,
  terminal: boolean,
): Promise<number> {
  let leave = (_code: number): void => {};
  const left = new Promise<number>((resolve) => {
    leave = resolve;
  });
  let asked = false;
  const onSignal = (signal: NodeJS.Signals): void => {
    if (asked) leave(128 + constants.signals[signal]);
    else socket.write(encodeFrame(frame.signal, signal.slice(3)));
    asked = true;
  };
  for (const signal of signals) process.on(signal, onSignal);
  const leaveInput = terminal ? passTerminal(session, socket) : passInput(session, socket);
  try {
    return await Promise.race([printOutput(session, socket, rest, 'the container'), left]);
  } catch (error) {
    if (!socket.destroyed) throw error;
    await clearUp();
    throw new TsvError('TSV_AGENT', "the project's agent was ended, and with it what it ran here", {
      hint: 'run the command again',
    });
  } finally {
    leaveInput();
    for (const signal of signals) process.off(signal, onSignal);
    // It goes with this process.
    socket.pause();
    socket.unref();
  }
}
