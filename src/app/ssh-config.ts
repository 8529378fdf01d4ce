import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { TsvError } from '../model/errors.ts';
import { resolveTargets } from '../plan/targets.ts';
import { sshConfig } from '../ssh/config.ts';
import { knownHostsLine } from '../ssh/keys.ts';
import { projectPaths } from '../state/paths.ts';
import { readState } from '../state/store.ts';
import { builtFile, findProjectDir, type Place } from './place.ts';

/** ssh_config(5) for machines that exist. Writes each machine's known_hosts file beside its keys. */
export async function sshConfigText(place: Place, names: readonly string[]): Promise<string> {
  const projectDir = findProjectDir(place);
  const state = readState(projectDir);
  const specs = Object.values(state?.machines ?? {}).map(({ spec }) => spec);
  if (state === undefined || specs.length === 0)
    throw new TsvError('TSV_NOT_RUNNING', 'no machine exists yet', { hint: 'tsv up' });
  const chosen = names.length === 0 ? specs.map(({ name }) => name) : resolveTargets(names, specs);
  const machines = chosen.map((name) => {
    const { identityFile, hostKey } = state.machines[name]?.provider ?? {};
    if (typeof identityFile !== 'string' || typeof hostKey !== 'string')
      throw new TsvError('TSV_NOT_RUNNING', `${name} has no keys yet`, { hint: `tsv up ${name}` });
    const knownHostsFile = join(projectPaths(projectDir).machineDir(name), 'known_hosts');
    writeFileSync(knownHostsFile, `${knownHostsLine([`${name}.${state.projectName}`], hostKey)}\n`, { mode: 0o600 });
    return {
      name,
      user: 'root',
      identityFile,
      knownHostsFile,
      proxyCommand: [process.execPath, builtFile('tsv.js'), '-C', projectDir, 'ssh-proxy', name],
    };
  });
  return sshConfig({ project: state.projectName, machines });
}
