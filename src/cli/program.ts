import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import type { Place } from '../app/place.ts';
import { TsvError } from '../model/errors.ts';
import { describeStore } from './describe-store.ts';

/** What every command gets; see run.ts. */
export interface Session {
  readonly place: Place;
  /** As typed, for others who wait for us. */
  readonly commandLine: string;
  readonly stdin: NodeJS.ReadStream;
  readonly stdout: NodeJS.WriteStream;
  readonly stderr: NodeJS.WriteStream;
}

export type Handler<O> = (session: Session, args: readonly string[], options: O) => Promise<number>;

const wholeNumber = (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('a whole number, 1 or more');
  return value;
};

/**
 * The command line. Each command's code is loaded when it is called, and not before.
 * @param run gets the command's handler, its arguments and options
 * @param only describe just this command; anything else is then unknown
 */
export function createProgram(
  version: string,
  run: (load: () => Promise<Handler<never>>, args: readonly string[], options: object, global: object) => Promise<void>,
  only?: string,
): Command {
  const program = new Command('tsv')
    .description('Virtual machines and containers from one file, without root and without a daemon.')
    .version(version, '-V, --version', 'print the version')
    .option('-C, --chdir <folder>', 'work as if started in this folder')
    .option('-f, --file <Tsfile>', 'this Tsfile instead of the one in this folder or above')
    .helpOption('-h, --help', 'print help')
    .helpCommand('help [command]', 'print help on a command')
    .showSuggestionAfterError()
    .enablePositionalOptions()
    .exitOverride()
    .addHelpText(
      'after',
      '\nFirst steps:\n  tsv init      write a Tsfile.yaml here\n  tsv up        make what it says\n  tsv ssh NAME  go in\n  tsv destroy   remove everything again',
    );

  /** A command's options are described only when they are needed: for this command, or for help on all. */
  const when = (name: string, describe: () => Command): void => {
    if (only === undefined || only === name) describe();
  };
  const define = (name: string, description: string, load: () => Promise<Handler<never>>): Command =>
    program
      .command(name)
      .description(description)
      .helpOption('-h, --help', 'print help')
      .action(async (...all: unknown[]) => {
        const command = all.at(-1) as Command;
        await run(load, command.args, command.opts(), program.opts());
      });
  const json = new Option('--json', 'machine-readable output');
  const parallel = new Option('--parallel <n>', 'most steps at once').argParser(wholeNumber).default(8);
  const names = (command: Command) =>
    command.argument('[names...]', 'machines or replica groups; all when none is given');

  const describeBox = (): void => {
    const box = program
      .command('box')
      .description('boxes: what machines are made from')
      .helpOption('-h, --help', 'print help');
    const boxAction =
      (name: 'list' | 'build') =>
      async (...all: unknown[]) => {
        const command = all.at(-1) as Command;
        await run(
          async () => (await import('./commands/box.ts'))[name] as Handler<never>,
          command.args,
          command.opts(),
          program.opts(),
        );
      };
    box.command('list').description('list the boxes').addOption(json).action(boxAction('list'));
    box
      .command('build')
      .description('build a box into the store')
      .argument('<name>', 'the box')
      .addOption(new Option('--kind <kind>', 'only the part for this kind').choices(['container', 'vm']))
      .addOption(json)
      .option('-q, --quiet', 'print errors only')
      .action(boxAction('build'));
  };

  program.commandsGroup('Project:');
  when('init', () =>
    define(
      'init',
      'write a commented Tsfile.yaml',
      async () => (await import('./commands/init.ts')).init as Handler<never>,
    )
      .option('-t, --template <name>', 'which one to write', 'default')
      .option('-l, --list', 'list the templates'),
  );
  when('validate', () =>
    define(
      'validate',
      'check the Tsfile and show every mistake',
      async () => (await import('./commands/validate.ts')).validate as Handler<never>,
    ).addOption(json),
  );
  when('plan', () =>
    names(
      define(
        'plan',
        'show what up would do and why; exit code 0: nothing, 2: something',
        async () => (await import('./commands/plan.ts')).plan as Handler<never>,
      ),
    ).addOption(json),
  );

  when('lock', () =>
    define(
      'lock',
      'write into Tsfile.lock which boxes and images the machines are made from',
      async () => (await import('./commands/lock.ts')).lock as Handler<never>,
    )
      .option('--check', 'write nothing; ask the registries what is newer; exit code 0: nothing, 2: something')
      .addOption(json),
  );
  when('update', () =>
    names(
      define(
        'update',
        'ask the registries for newer images, and write them into Tsfile.lock; up takes them',
        async () => (await import('./commands/lock.ts')).update as Handler<never>,
      ),
    ).addOption(json),
  );

  program.commandsGroup('Machines:');
  for (const [name, description] of [
    ['up', 'make the machines as the Tsfile says'],
    ['reload', 'restart machines, with what changed in the Tsfile'],
  ] as const) {
    if (only !== undefined && only !== name) continue;
    names(define(name, description, async () => (await import('./commands/change.ts'))[name] as Handler<never>))
      .option('--provision', 'run all provisioning steps again')
      .option('--no-provision', 'run no provisioning steps')
      .option('--locked', 'fail if Tsfile.lock would have to change')
      .addOption(parallel)
      .addOption(json)
      .option('-q, --quiet', 'print errors only');
  }
  when('provision', () =>
    names(
      define(
        'provision',
        'run the provisioning steps of running machines again',
        async () => (await import('./commands/change.ts')).provisionMachines as Handler<never>,
      ),
    )
      .option('--only <step>', 'only the step of this name')
      .addOption(parallel)
      .addOption(json)
      .option('-q, --quiet', 'print errors only'),
  );
  when('halt', () =>
    names(
      define(
        'halt',
        'stop machines; their disks stay',
        async () => (await import('./commands/change.ts')).halt as Handler<never>,
      ),
    )
      .option('--force', 'end them at once')
      .addOption(parallel)
      .addOption(json)
      .option('-q, --quiet', 'print errors only'),
  );
  when('destroy', () =>
    names(
      define(
        'destroy',
        'remove machines and all that was made for them',
        async () => (await import('./commands/change.ts')).destroy as Handler<never>,
      ),
    )
      .option('-f, --force', 'do not ask')
      .addOption(parallel)
      .addOption(json)
      .option('-q, --quiet', 'print errors only'),
  );

  program.commandsGroup('Look and use:');
  when('status', () =>
    define(
      'status',
      'machines and their state',
      async () => (await import('./commands/status.ts')).status as Handler<never>,
    ).addOption(json),
  );
  when('ssh', () =>
    define(
      'ssh',
      'go into a machine, or run one command there',
      async () => (await import('./commands/ssh.ts')).ssh as Handler<never>,
    )
      .argument('<name>', 'the machine')
      .argument('[command...]', 'a command line for the machine’s shell; put -- before it')
      .option('-c, --command <command>', 'a command line for the machine’s shell')
      .option('-l, --login <user>', 'as this user', 'root')
      .option('-t, --tty', 'give the command a terminal'),
  );
  when('exec', () =>
    define(
      'exec',
      'run a program in a machine, without a shell',
      async () => (await import('./commands/exec.ts')).exec as Handler<never>,
    )
      .argument('<name>', 'the machine')
      .argument('<command...>', 'program and arguments; put -- before them')
      .option('-u, --user <user>', 'as this user', 'root')
      .option('-w, --workdir <folder>', 'in this folder')
      .option(
        '-e, --env <NAME=value>',
        'with this variable; may be given more than once',
        (value: string, previous: string[] | undefined) => [...(previous ?? []), value],
      )
      .option('-T, --no-tty', 'give it no terminal')
      .passThroughOptions(),
  );
  when('ssh-config', () =>
    define(
      'ssh-config',
      'configuration for ssh, scp, rsync, sftp and editors',
      async () => (await import('./commands/ssh-config.ts')).sshConfigCommand as Handler<never>,
    ).argument('[names...]', 'machines; all when none is given'),
  );
  when('logs', () =>
    names(
      define(
        'logs',
        'what machines print: console of a VM, output of a container',
        async () => (await import('./commands/logs.ts')).logs as Handler<never>,
      ),
    )
      .option('-f, --follow', 'go on as they print more')
      .option('-n, --tail <lines>', 'only the last lines', wholeNumber),
  );
  when('port', () =>
    define(
      'port',
      'forwarded ports of a machine',
      async () => (await import('./commands/port.ts')).port as Handler<never>,
    )
      .argument('<name>', 'the machine')
      .argument('[port]', 'print only where this port of the machine is reached')
      .addOption(json),
  );

  program.commandsGroup('Host:');
  // Listed only: as the first word it is a program of its own, oci-main.ts.
  when('oci', () =>
    define('oci', 'a container runtime for OCI bundles, with runc’s command line: tsv oci --help', async () => {
      throw new TsvError('TSV_USAGE', 'oci takes no options before it', { hint: 'tsv oci --help' });
    })
      .argument('[arguments...]')
      .helpOption(false)
      .allowUnknownOption()
      .passThroughOptions(),
  );
  if (only === undefined) describeBox();
  describeStore(
    program,
    (load) =>
      async (...all) => {
        const command = all.at(-1) as Command;
        await run(load, command.args, command.opts(), program.opts());
      },
    only,
  );
  when('doctor', () =>
    define(
      'doctor',
      'what this host can do, what is missing, and the command that mends it',
      async () => (await import('./commands/doctor.ts')).doctor as Handler<never>,
    ).addOption(json),
  );
  when('ssh-proxy', () =>
    define('ssh-proxy', '', async () => (await import('./commands/ssh-proxy.ts')).sshProxy as Handler<never>).argument(
      '<name>',
    ),
  );
  const proxy = program.commands.find((command) => command.name() === 'ssh-proxy') as
    | (Command & { _hidden?: boolean })
    | undefined;
  if (proxy !== undefined) proxy._hidden = true;
  for (const command of [program, ...program.commands, ...program.commands.flatMap((group) => group.commands)]) {
    command.exitOverride();
    command.configureOutput({ outputError: () => {} }); // errors are rendered like all others
  }
  return program;
}

/** commander's own errors as ours; help and version are no errors. */
export function usageError(error: unknown): { exit: number } | TsvError | undefined {
  if (!(error instanceof CommanderError)) return undefined;
  if (error.exitCode === 0) return { exit: 0 };
  if (error.code === 'commander.help') return { exit: 1 };
  const message = error.message.replace(/^error: /, '');
  const [first = message, ...rest] = message.split('\n');
  return new TsvError('TSV_USAGE', first, { details: rest, hint: 'tsv help' });
}
