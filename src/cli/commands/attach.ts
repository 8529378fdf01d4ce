import { attachable } from '../../app/attach.ts';
import { attachConsole } from '../console.ts';
import type { Handler } from '../program.ts';
import { logs } from './logs.ts';

export const attach: Handler<{ detachKeys: Buffer }> = async (session, [name = ''], { detachKeys }) => {
  const { kind, exitCode } = await attachable(session.place, name);
  if (kind === 'container') {
    await logs(session, [name], { follow: true, tail: 0, prefix: false, color: false });
    return exitCode();
  }
  return attachConsole(session, name, detachKeys);
};
