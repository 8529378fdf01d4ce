import { TsvError } from '../../model/errors.ts';
import {
  type CommandName,
  type CommandSpec,
  commands,
  type GlobalOptions,
  globalFlags,
  isCommand,
  type OptionsOf,
} from './commands.ts';
import { parseFlags } from './flags.ts';

/** A command with its options and arguments: one member of the union for each command. */
export type Call = {
  [C in CommandName]: { readonly command: C; readonly options: OptionsOf<C>; readonly args: readonly string[] };
}[CommandName];

export type Wish =
  | { readonly show: 'version' }
  /** On one command, or on all. */
  | { readonly show: 'help'; readonly command?: CommandName };

/** What is wrong with a command line is known only once its global options are: they say where errors go. */
export interface CommandLine {
  readonly global: GlobalOptions;
  /** @throws TSV_USAGE */
  readonly read: () => Call | Wish;
}

/**
 * Reads the command line of `tsv oci`, which is runc's: global options, a command, its options and arguments.
 * @throws TSV_USAGE for a mistake in the global options
 */
export function readCommandLine(argv: readonly string[]): CommandLine {
  const { values: global, rest, help } = withHint(undefined, () => parseFlags(globalFlags, argv, { anywhere: false }));
  return {
    global,
    read: () => {
      if (help) return { show: 'help' };
      if (global.version === true) return { show: 'version' };
      return readCommand(rest);
    },
  };
}

function readCommand([name, ...args]: readonly string[]): Call | Wish {
  if (name === undefined) return { show: 'help' };
  if (name === 'help' || name === 'h') {
    const [about] = args;
    return about === undefined ? { show: 'help' } : { show: 'help', command: known(about) };
  }
  const command = known(name);
  const spec: CommandSpec = commands[command];
  const parsed = withHint(command, () => parseFlags(spec.flags, args, { anywhere: spec.passesOn !== true }));
  if (parsed.help) return { show: 'help', command };
  const count = parsed.rest.length;
  if (count < spec.least || count > spec.most) {
    throw new TsvError(
      'TSV_USAGE',
      `"${command}" requires ${expected(spec)}, and ${count === 0 ? 'none is' : `${count} are`} given`,
      {
        hint: hintOf(command),
      },
    );
  }
  return { command, options: parsed.values, args: parsed.rest } as Call;
}

function expected({ least, most }: CommandSpec): string {
  const plural = (count: number) => `${count} argument${count === 1 ? '' : 's'}`;
  if (least === most) return `exactly ${plural(least)}`;
  return most === Number.POSITIVE_INFINITY ? `at least ${plural(least)}` : `${least} to ${plural(most)}`;
}

function known(name: string): CommandName {
  if (isCommand(name)) return name;
  if (name === 'checkpoint' || name === 'restore') {
    throw new TsvError('TSV_UNSUPPORTED', `${name} is not possible: tsv keeps no images of running processes`);
  }
  throw new TsvError('TSV_USAGE', `no command '${name}'`, { hint: hintOf(undefined), exitCode: 3 });
}

const hintOf = (command: CommandName | undefined): string =>
  `tsv oci ${command === undefined ? '' : `${command} `}--help`;

function withHint<T>(command: CommandName | undefined, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof TsvError)) throw error;
    throw new TsvError(error.code, error.message, { hint: hintOf(command) });
  }
}
