import { diagnose } from '../../app/doctor.ts';
import type { Handler } from '../program.ts';
import { renderDoctor } from '../render/doctor.ts';
import { readTerminal } from '../render/terminal.ts';

export const doctor: Handler<{ json?: boolean }> = async (session, _, options) => {
  const requirements = await diagnose(session.place);
  session.stdout.write(
    options.json === true
      ? `${JSON.stringify(requirements)}\n`
      : renderDoctor(requirements, readTerminal(session.stdout, session.place.env)),
  );
  return requirements.some((requirement) => requirement.required && !requirement.ok) ? 1 : 0;
};
