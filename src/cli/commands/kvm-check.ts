import { checkKvm } from '../../app/kvm-check.ts';
import type { Handler } from '../program.ts';
import { jsonLine } from '../render/json.ts';
import { renderKvmCheck } from '../render/kvm-check.ts';
import { readTerminal } from '../render/terminal.ts';

export const kvmCheck: Handler<{ json?: boolean; verbose?: boolean }> = async (session, _, options) => {
  const check = await checkKvm();
  session.stdout.write(
    options.json === true
      ? `${jsonLine(check)}\n`
      : renderKvmCheck(check, options.verbose === true, readTerminal(session.stdout, session.place.env)),
  );
  return check.usable ? 0 : 1;
};
