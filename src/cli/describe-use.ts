import { InvalidArgumentError, Option } from 'commander';
import { type Describe, seconds } from './describe.ts';
import { defaultDetachKeys, parseDetachKeys } from './detach-keys.ts';
import type { Handler } from './program.ts';
import { collect } from './variable.ts';

/** What works with machines that run. */
export function describeUse({ program, when, define, names, json, parallel }: Describe): void {
  program.commandsGroup('Use:');
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
      .option('-e, --env <NAME=value>', 'with this variable; may be given more than once', collect)
      .option('-T, --no-tty', 'give it no terminal')
      .passThroughOptions(),
  );
  when('run', () =>
    define(
      'run',
      'run one command in a container of its own, beside the project’s machines',
      async () => (await import('./commands/run.ts')).run as Handler<never>,
    )
      .argument('<image>', 'a box or an image, as in a Tsfile; pulled when it is missing')
      .argument('[command...]', 'program and arguments; the image’s when none is given')
      .option('--name <name>', 'what it is called in the network; else run-1, run-2, …')
      .option('--network <name>', 'in this network of the project')
      .option('-e, --env <NAME=value>', 'with this variable; may be given more than once', collect)
      .option('-u, --user <user[:group]>', 'as this user; else the image’s')
      .option('-w, --workdir <folder>', 'in this folder; else the image’s')
      .option('--entrypoint <program>', 'in place of the image’s entrypoint and command')
      .option('-T, --no-tty', 'give it no terminal')
      .option('--rm', 'remove the container afterwards, which is done anyway')
      .option('-q, --quiet', 'print errors only, besides what the command prints')
      .passThroughOptions()
      .addHelpText('after', runHelp),
  );
  when('attach', () =>
    define(
      'attach',
      'the console of a virtual machine, both ways; the output of a container',
      async () => (await import('./commands/attach.ts')).attach as Handler<never>,
    )
      .argument('<name>', 'the machine')
      .addOption(
        new Option('--detach-keys <keys>', 'what leaves the console, such as ctrl-a,d or ctrl-]')
          .argParser(detachKeys)
          .default(detachKeys(defaultDetachKeys), defaultDetachKeys),
      )
      .addHelpText('after', attachHelp),
  );
  when('cp', () =>
    define(
      'cp',
      'copy files and folders out of machines, into them, and between them',
      async () => (await import('./commands/cp.ts')).cp as Handler<never>,
    )
      .argument('<source>', 'NAME:PATH in a machine, a path here, or - for a tar archive from standard input')
      .argument('<destination>', 'NAME:PATH in a machine, a path here, or - for a tar archive to standard output')
      .option('-a, --archive', 'keep owners; else files become those of root, or here, yours')
      .option('-L, --follow-link', 'where the source is a symbolic link: copy what it leads to')
      .option('-q, --quiet', 'print errors only')
      .addHelpText('after', copyHelp),
  );
  when('restart', () =>
    names(
      define(
        'restart',
        'stop machines and start them again, as they are',
        async () => (await import('./commands/change.ts')).restart as Handler<never>,
      ),
    )
      .option('-t, --timeout <seconds>', 'kill what has not stopped by then', seconds)
      .addOption(parallel)
      .addOption(json)
      .option('-q, --quiet', 'print errors only')
      .addHelpText('after', restartHelp),
  );
  for (const [name, description] of [
    ['pause', 'stop all that runs in machines for a while; they do not notice'],
    ['unpause', 'let paused machines go on'],
  ] as const) {
    when(name, () =>
      names(define(name, description, async () => (await import('./commands/change.ts'))[name] as Handler<never>))
        .addOption(parallel)
        .addOption(json)
        .option('-q, --quiet', 'print errors only')
        .addHelpText('after', pauseHelp),
    );
  }
  when('kill', () =>
    define(
      'kill',
      'send a signal to machines; KILL ends them at once',
      async () => (await import('./commands/kill.ts')).kill as Handler<never>,
    )
      .argument('<names...>', 'machines or replica groups')
      .option('-s, --signal <signal>', 'name or number, with or without SIG', 'KILL')
      .option('-q, --quiet', 'print errors only')
      .addHelpText('after', killHelp),
  );
  when('ssh-config', () =>
    define(
      'ssh-config',
      'configuration for ssh, scp, rsync, sftp and editors',
      async () => (await import('./commands/ssh-config.ts')).sshConfigCommand as Handler<never>,
    ).argument('[names...]', 'machines; all when none is given'),
  );
}

const runHelp = `
The project need not be up; its machines are found by name. The container is there as long as the command: it goes when that
ends, when tsv run is killed, and with tsv halt and tsv destroy. The exit code is the command's. Where standard input and
output are a terminal, the command gets one; else its input, output and errors are separate. Ctrl-C and TERM go to the
command; a second one ends the container at once.

Examples:
  tsv run postgres:16 psql -h db -U shop
  tsv run debian-12 -- bash
  tsv run -e PGPASSWORD postgres:16 pg_dump -h db shop >shop.sql
  tsv run --network backend --entrypoint sh nginx:1.27 -c 'getent hosts web-1'`;

const detachKeys = (text: string): Buffer => {
  const keys = parseDetachKeys(text);
  if (keys === undefined)
    throw new InvalidArgumentError('keys separated by commas: a character, or ctrl- and a letter or one of @[\\]^_');
  return keys;
};

const attachHelp = `
A virtual machine's serial console, from now on: Enter shows where it is. Several may be attached at once. All keys go to the
machine, Ctrl-C too, but for those that detach. A login there asks for a password, which no box has: tsv ssh goes in without.
If standard input is no terminal, what it gives is typed, and its end is not the end.
A container's first process has no input: its output is printed as by tsv logs -f, byte for byte, until Ctrl-C.

Ends when the machine does, with its exit code; 0 after detaching, and when it was stopped by a command.

Examples:
  tsv attach db
  tsv attach --detach-keys ctrl-] db`;

const copyHelp = `
As docker cp does: into a destination that is a folder, else as what the destination says, whose parent has to be there.
A source that ends with /. is what is in the folder, without the folder. Paths in machines begin at /. Links are copied as
links. A file is replaced when the new one is whole. A path here with a colon in it is ./FILE or /FOLDER/FILE.

Examples:
  tsv cp web-1:/etc/nginx .              the folder, into this one
  tsv cp site/. web-1:/var/www/html      what is in site
  tsv cp db:/dump.sql web-1:/tmp
  tsv cp -a web-1:/srv - | tar -t        an archive`;

const restartHelp = `
The Tsfile is not read: machines start as they were, with their addresses, forwards and disks, and no provisioning runs.
Dependents stop first and start last. What does not run is started. For what changed in the Tsfile there is tsv reload.

Examples:
  tsv restart
  tsv restart --timeout 2 web    every replica of web has two seconds to stop`;

const pauseHelp = `
A paused machine keeps its memory, addresses and forwards and takes no CPU time; whoever connects to it waits. It stays so
until tsv unpause, and halt, restart, kill and destroy end it as any other. A container needs a cgroup of its own for
it; tsv doctor says whether there is one.

Examples:
  tsv pause db
  tsv unpause`;

const killHelp = `
A container's first process gets the signal; KILL ends all that is in the container. A virtual machine can only be killed:
its power is cut. Unlike halt, kill waits for no other command.

Examples:
  tsv kill web-1
  tsv kill --signal HUP web    every replica of web reads its configuration again`;
