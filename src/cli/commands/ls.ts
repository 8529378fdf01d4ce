import { listProjects } from '../../app/list.ts';
import type { Handler } from '../program.ts';
import { jsonLine } from '../render/json.ts';
import { renderProjects } from '../render/projects.ts';
import { readTerminal } from '../render/terminal.ts';

export const ls: Handler<{ json?: boolean; quiet?: boolean }> = async (session, _, options) => {
  const projects = listProjects(session.place);
  if (options.json === true) session.stdout.write(`${jsonLine(projects)}\n`);
  else if (options.quiet === true) session.stdout.write(projects.map(({ dir }) => `${dir}\n`).join(''));
  else session.stdout.write(renderProjects(projects, readTerminal(session.stdout, session.place.env), Date.now()));
  return 0;
};
