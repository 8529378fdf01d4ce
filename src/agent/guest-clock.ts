import { TsvError } from '../model/errors.ts';
import type { Transport } from '../model/provider.ts';

/** Sets the clock of a virtual machine whose memory is of some time ago. @throws TSV_SNAPSHOT */
export async function setGuestClock(name: string, transport: Pick<Transport, 'exec'>): Promise<void> {
  const session = await transport.exec({ argv: ['date', '-u', '-s', `@${(Date.now() / 1000).toFixed(3)}`] });
  session.stdin.end();
  session.stdout.resume();
  let said = '';
  session.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = `${said}${text}`.slice(-500);
  });
  const { code } = await session.exited;
  if (code === 0) return;
  throw new TsvError('TSV_SNAPSHOT', `${name} runs, and its clock could not be set`, {
    details: [said.trim() || `date: exit code ${code}`],
    hint: `tsv exec ${name} -- date -s @$(date +%s)`,
  });
}
