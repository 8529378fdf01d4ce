import { TsvError } from '../../model/errors.ts';
import { type ExitStatus, signalProcess } from '../../sys/children.ts';
import { proxyTerminal } from '../console.ts';
import type { ContainerRecord } from '../store.ts';

/** A terminal needs somebody who takes it. @throws TSV_USAGE */
export function requireConsole(terminal: boolean, socket: string | undefined, { console }: { console?: number }): void {
  if (terminal && socket === undefined && console === undefined) {
    throw new TsvError('TSV_USAGE', 'process.terminal: whoever starts it goes away, so it needs a --console-socket');
  }
  if (!terminal && socket !== undefined) {
    throw new TsvError('TSV_USAGE', '--console-socket: process.terminal is not set: there is no terminal to send');
  }
}

/** Takes the signals that a process in the foreground is to have, from before it starts. */
export function forwardSignals(): { to(process: ContainerRecord['process']): void; stop(): void } {
  const names: readonly NodeJS.Signals[] = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGCONT'];
  const early: number[] = [];
  let send = (signal: number): void => {
    early.push(signal);
  };
  const forward = (_: NodeJS.Signals, signal: number) => send(signal);
  for (const name of names) process.on(name, forward);
  return {
    to: (target) => {
      send = (signal) => void signalProcess(target, signal);
      for (const signal of early.splice(0)) send(signal);
    },
    stop: () => {
      for (const name of names) process.off(name, forward);
    },
  };
}

/** Waits for a process in the foreground: our signals are its signals, our terminal its terminal. */
export async function attend(
  target: { readonly process: ContainerRecord['process']; readonly exited: Promise<ExitStatus | undefined> },
  master: number | undefined,
  signals: ReturnType<typeof forwardSignals>,
): Promise<number> {
  const settle = master === undefined ? undefined : proxyTerminal(master);
  signals.to(target.process);
  try {
    const status = await target.exited;
    await settle?.();
    return exitCode(status);
  } finally {
    signals.stop();
  }
}

const exitCode = (status: ExitStatus | undefined): number =>
  status?.signal === undefined ? (status?.code ?? 255) : 128 + status.signal;
