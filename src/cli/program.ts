import { Command, CommanderError, Option } from 'commander';
import type { Place } from '../app/place.ts';
import { TsvError } from '../model/errors.ts';
import { type Describe, wholeNumber } from './describe.ts';
import { describeLook } from './describe-look.ts';
import { describeMachines } from './describe-machines.ts';
import { describeProject } from './describe-project.ts';
import { describeSnapshot } from './describe-snapshot.ts';
import { type Act, describeStore } from './describe-store.ts';
import { describeUse } from './describe-use.ts';
import { describeVolume } from './describe-volume.ts';

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

/**
 * The command line. Each command's code is loaded when it is called, and not before.
 * @param run gets the command's handler, its arguments and options
 * @param only describe just this command; anything else is then unknown
 * @param write takes what the command line itself says: help and the version
 */
export function createProgram(
  version: string,
  run: (load: () => Promise<Handler<never>>, args: readonly string[], options: object, global: object) => Promise<void>,
  only?: string,
  write?: (name: 'stdout' | 'stderr', text: string) => void,
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
  const act: Act =
    (load) =>
    async (...all) => {
      const command = all.at(-1) as Command;
      await run(load, command.args, command.opts(), program.opts());
    };
  const define = (name: string, description: string, load: () => Promise<Handler<never>>): Command =>
    program.command(name).description(description).helpOption('-h, --help', 'print help').action(act(load));
  const json = new Option('--json', 'machine-readable output');
  const parallel = new Option('--parallel <n>', 'most steps at once').argParser(wholeNumber).default(8);
  const timings = new Option('--timings', 'tell at the end where the time went');
  const names = (command: Command) =>
    command.argument('[names...]', 'machines or replica groups; all when none is given');

  const describeBox = (): void => {
    const box = program
      .command('box')
      .description('boxes: what machines are made from')
      .helpOption('-h, --help', 'print help');
    box
      .command('list')
      .description('list the boxes')
      .addOption(json)
      .action(act(async () => (await import('./commands/box.ts')).list as Handler<never>));
    box
      .command('build')
      .description('build a box into the store')
      .argument('<name>', 'the box')
      .addOption(new Option('--kind <kind>', 'only the part for this kind').choices(['container', 'vm']))
      .addOption(json)
      .option('-q, --quiet', 'print errors only')
      .action(act(async () => (await import('./commands/box.ts')).build as Handler<never>));
    box
      .command('warm')
      .description('make what the box’s virtual machines start from without booting')
      .argument('<name>', 'the box')
      .option('--memory <size>', 'for machines with this much, and not for those of the Tsfile')
      .addOption(new Option('--cpus <n>', 'for machines with so many').argParser(wholeNumber))
      .addOption(json)
      .option('-q, --quiet', 'print errors only')
      .action(act(async () => (await import('./commands/box.ts')).warm as Handler<never>));
  };

  const describe: Describe = { program, only, when, define, names, json, parallel, timings };
  describeProject(describe);
  if (only === undefined) describeVolume(program, act);
  if (only === undefined) describeSnapshot(program, act);
  describeMachines(describe);
  describeLook(describe);
  describeUse(describe);

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
  describeStore(program, act, only);
  when('doctor', () =>
    define(
      'doctor',
      'what this host can do, what is missing, and the command that mends it',
      async () => (await import('./commands/doctor.ts')).doctor as Handler<never>,
    ).addOption(json),
  );
  when('kvm-check', () =>
    define(
      'kvm-check',
      'use KVM step by step, up to guests that run; exit code 1: it cannot be used',
      async () => (await import('./commands/kvm-check.ts')).kvmCheck as Handler<never>,
    )
      .option('-v, --verbose', 'show every call: its number, time and result')
      .addOption(json)
      .addHelpText(
        'after',
        '\nExamples:\n  tsv kvm-check --verbose\n  tsv kvm-check --json | jq -r ".failure | .what, .why, .mend"',
      ),
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
    command.configureOutput({
      outputError: () => {}, // errors are rendered like all others
      ...(write && { writeOut: (text) => write('stdout', text), writeErr: (text) => write('stderr', text) }),
    });
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
