import { knownMachine } from '../../app/machine.ts';
import { imageStatus } from '../../app/status.ts';
import { TsvError } from '../../model/errors.ts';
import type { Handler } from '../program.ts';

export const port: Handler<{ json?: boolean }> = async (session, [name = '', guestPort], options) => {
  const { record } = await knownMachine(session.place, name);
  const forwards = record.spec.forwards.filter(
    (forward) => guestPort === undefined || forward.guestPort === Number(guestPort),
  );
  if (guestPort !== undefined && forwards.length === 0) {
    throw new TsvError('TSV_UNKNOWN_MACHINE', `port ${guestPort} of ${name} is not forwarded`, {
      hint: `tsv port ${name}`,
    });
  }
  if (options.json === true) session.stdout.write(`${JSON.stringify(forwards)}\n`);
  else {
    for (const { hostAddress, hostPort, guestPort: inside } of forwards) {
      session.stdout.write(
        guestPort === undefined ? `${inside} -> ${hostAddress}:${hostPort}\n` : `${hostAddress}:${hostPort}\n`,
      );
    }
    const exposed = record.spec.image === undefined ? [] : imageStatus(record).exposedPorts;
    const missing = exposed.filter(
      (port) => !record.spec.forwards.some((forward) => port === `${forward.guestPort}/tcp`),
    );
    if (guestPort === undefined && missing.length > 0)
      session.stderr.write(`The image listens on ${missing.join(', ')}, too: not in \`forwards\` of the Tsfile.\n`);
  }
  return 0;
};
