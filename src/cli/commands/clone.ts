import { cloneMachine } from '../../app/clone.ts';
import type { Handler } from '../program.ts';
import { withProgress } from '../progress.ts';

export const clone: Handler<{ json?: boolean; quiet?: boolean }> = async (session, [from = '', to = ''], options) => {
  const { place, commandLine } = session;
  await withProgress(session, options, (emit, signal) => cloneMachine({ place, commandLine, from, to, emit, signal }));
  return 0;
};
