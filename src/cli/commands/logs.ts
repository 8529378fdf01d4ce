import { followLogs, logFiles, printLogs } from '../../app/logs.ts';
import type { Handler } from '../program.ts';

export const logs: Handler<{ follow?: boolean; tail?: number }> = async (session, names, options) => {
  const files = await logFiles(session.place, names);
  const write = (text: string) => session.stdout.write(text);
  const ends = await printLogs(files, { write, ...(options.tail === undefined ? {} : { tail: options.tail }) });
  if (options.follow === true) await followLogs(files, ends, write, session.stdout);
  return 0;
};
