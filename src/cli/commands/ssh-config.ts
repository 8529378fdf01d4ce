import { sshConfigText } from '../../app/ssh-config.ts';
import type { Handler } from '../program.ts';

export const sshConfigCommand: Handler<object> = async (session, names) => {
  session.stdout.write(await sshConfigText(session.place, names));
  return 0;
};
