import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import type { Session } from './program.ts';

/** Asks on the terminal; the question goes to stderr. `hidden`: what is typed is not shown. */
export async function ask(session: Session, question: string, { hidden = false } = {}): Promise<string> {
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({
    input: session.stdin,
    output: hidden ? silent : session.stderr,
    terminal: true,
  });
  // Ctrl-C here is a signal to all, as everywhere else.
  lines.on('SIGINT', () => {
    lines.close();
    process.kill(process.pid, 'SIGINT');
  });
  try {
    if (hidden) session.stderr.write(question);
    const answer = await lines.question(hidden ? '' : question);
    if (hidden) session.stderr.write('\n');
    return answer;
  } finally {
    lines.close();
  }
}

/** A yes is asked for; anything else is a no. */
export async function agreed(session: Session, question: string): Promise<boolean> {
  return /^y(es)?$/i.test((await ask(session, `${question} [y/N] `)).trim());
}
