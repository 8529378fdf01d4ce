import { projectStatus } from '../../app/status.ts';
import type { Handler } from '../program.ts';
import { renderStatus } from '../render/status.ts';
import { readTerminal } from '../render/terminal.ts';

export const status: Handler<{ json?: boolean; watch?: boolean }> = async (session, _, options) => {
  if (options.watch === true) return (await import('./watch-status.ts')).watchAndShow(session, options);
  const result = await projectStatus(session.place);
  session.stdout.write(
    options.json === true
      ? `${JSON.stringify(result)}\n`
      : renderStatus(result, readTerminal(session.stdout, session.place.env)),
  );
  return 0;
};
