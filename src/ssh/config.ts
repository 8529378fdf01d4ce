import { TsvError } from '../model/errors.ts';

export interface SshConfigMachine {
  readonly name: string;
  readonly user: string;
  /** Absolute paths. */
  readonly identityFile: string;
  readonly knownHostsFile: string;
  /** argv of the program that connects its stdin and stdout with the machine's SSH server. */
  readonly proxyCommand: readonly string[];
}

/**
 * Text for ssh(1)'s `-F` or for an `Include` in ~/.ssh/config (ssh_config(5)): one block per machine, under its
 * name and under NAME.PROJECT. The known_hosts file holds the machine's key under NAME.PROJECT.
 * @throws TSV_UNSUPPORTED when a path holds a character that ssh_config cannot carry.
 */
export function sshConfig(options: { project: string; machines: readonly SshConfigMachine[] }): string {
  return options.machines
    .map((machine) => {
      const alias = `${machine.name}.${options.project}`;
      return [
        `Host ${machine.name} ${alias}`,
        `  HostName ${alias}`,
        `  HostKeyAlias ${alias}`,
        `  User ${machine.user}`,
        `  IdentityFile ${pathWord(machine.identityFile)}`,
        '  IdentitiesOnly yes',
        `  UserKnownHostsFile ${pathWord(machine.knownHostsFile)}`,
        '  GlobalKnownHostsFile /dev/null',
        '  StrictHostKeyChecking yes',
        '  UpdateHostKeys no',
        '  PasswordAuthentication no',
        '  LogLevel ERROR',
        `  ProxyCommand ${machine.proxyCommand.map(commandWord).join(' ')}`,
        '',
      ].join('\n');
    })
    .join('\n');
}

/** ssh_config knows double quotes with backslash escapes, and expands %-tokens and (in these options) ${VAR}. */
function pathWord(path: string): string {
  if (/[\n\r\0]|\$\{/.test(path)) {
    throw new TsvError('TSV_UNSUPPORTED', 'ssh cannot be told a path with a line break or ${ in it', {
      details: [JSON.stringify(path)],
      hint: 'move the project into a folder with a plain name',
    });
  }
  return `"${path.replaceAll('%', '%%').replace(/["\\]/g, '\\$&')}"`;
}

/** The rest of the line goes to the user's shell after %-tokens are expanded; it may not hold a line break. */
function commandWord(word: string): string {
  if (/[\n\r\0]/.test(word)) {
    throw new TsvError('TSV_UNSUPPORTED', 'ssh cannot be told a command with a line break in it', {
      details: [JSON.stringify(word)],
      hint: 'move the project into a folder with a plain name',
    });
  }
  const escaped = word.replaceAll('%', '%%');
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(escaped) ? escaped : `'${escaped.replaceAll("'", "'\\''")}'`;
}
