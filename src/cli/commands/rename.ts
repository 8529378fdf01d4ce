import { renameMachine } from '../../app/rename.ts';
import type { Handler } from '../program.ts';
import { withProgress } from '../progress.ts';

export const rename: Handler<{ json?: boolean; quiet?: boolean }> = async (session, [from = '', to = ''], options) => {
  const { place, commandLine } = session;
  await withProgress(session, options, (emit, signal) => renameMachine({ place, commandLine, from, to, emit, signal }));
  return 0;
};
