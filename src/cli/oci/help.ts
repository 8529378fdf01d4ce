import { type CommandName, type CommandSpec, commands, globalFlags } from './commands.ts';
import type { Flag, Flags } from './flags.ts';

/** Help on one command, or on all. */
export function helpText(command?: CommandName): string {
  return command === undefined ? overview() : commandHelp(command, commands[command]);
}

function overview(): string {
  return [
    'tsv oci: a container runtime after the OCI runtime specification, with the command line of runc.',
    '',
    'Usage: tsv oci [GLOBAL OPTIONS] COMMAND [OPTIONS] [ARGUMENTS]',
    '',
    'Commands:',
    ...columns(Object.entries(commands).map(([name, { summary }]) => [name, summary])),
    '',
    'Global options:',
    ...columns(flagRows(globalFlags)),
    '',
    'tsv oci COMMAND --help says more.',
    '',
  ].join('\n');
}

function commandHelp(name: string, { summary, usage, flags, notes = [] }: CommandSpec): string {
  const rows = flagRows(flags);
  return [
    `tsv oci ${name}: ${summary}`,
    '',
    `Usage: ${['tsv oci', name, ...(rows.length === 0 ? [] : ['[OPTIONS]']), usage].join(' ').trimEnd()}`,
    ...(rows.length === 0 ? [] : ['', 'Options:', ...columns(rows)]),
    ...(notes.length === 0 ? [] : ['', ...notes]),
    '',
  ].join('\n');
}

const flagRows = (flags: Flags): [string, string][] =>
  Object.entries<Flag>(flags).map(([name, { kind, short, help }]) => [
    `${short === undefined ? '    ' : `-${short}, `}--${name}${kind === 'switch' ? '' : ' VALUE'}`,
    help,
  ]);

function columns(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`);
}
