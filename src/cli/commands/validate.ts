import { load } from '../../app/place.ts';
import type { Handler } from '../program.ts';

export const validate: Handler<{ json?: boolean }> = async (session, _, options) => {
  const project = await load(session.place);
  const count = project.machines.length;
  session.stdout.write(
    options.json === true
      ? `${JSON.stringify({ valid: true, project: project.name, machines: project.machines.map(({ name }) => name) })}\n`
      : `The Tsfile is valid: ${count} machine${count === 1 ? '' : 's'} in project ${project.name}.\n`,
  );
  return 0;
};
