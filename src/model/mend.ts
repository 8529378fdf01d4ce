import type { Requirement } from './provider.ts';

const aptInstall = /^((?:sudo )?apt-get install(?: -\S+)*) ([a-z0-9][a-z0-9.+ -]*)$/;

/** The commands that mend everything, each once; those that install packages become one, at the first one's place. */
export function mendCommands(requirements: readonly Requirement[]): string[] {
  const packages = new Map<string, Set<string>>();
  const commands: (string | { readonly install: string })[] = [];
  for (const { ok, mend } of requirements) {
    if (ok || mend === undefined) continue;
    for (const line of mend.split('\n')) {
      const [, install, names] = aptInstall.exec(line) ?? [];
      if (install === undefined || names === undefined) {
        if (line.trim() !== '' && !commands.includes(line)) commands.push(line);
        continue;
      }
      const known = packages.get(install) ?? new Set();
      if (known.size === 0) commands.push({ install });
      for (const name of names.split(' ')) known.add(name);
      packages.set(install, known);
    }
  }
  return commands.map((command) =>
    typeof command === 'string' ? command : [command.install, ...(packages.get(command.install) ?? [])].join(' '),
  );
}
