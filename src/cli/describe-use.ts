import type { Describe } from './describe.ts';
import type { Handler } from './program.ts';

/** What works with machines that run. */
export function describeUse({ program, when, define }: Describe): void {
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
}
