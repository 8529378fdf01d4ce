import { type Describe, duration } from './describe.ts';
import type { Handler } from './program.ts';

const waitHelp = `
healthy    its health check succeeds
running    it runs and can be reached
completed  it has ended with 0, as a one-shot machine is to
stopped    it does not run, and its restart policy does not start it again

Exit code 0: all of them are; 1: one is not and will not be by itself, or the time is over; what it is instead is printed.

Examples:
  tsv wait db healthy --timeout 1m
  tsv wait migrate completed && tsv logs migrate`;

const renameHelp = `
First change the name in the Tsfile, also where depends_on has it. Disks, files, volumes, keys, addresses, and what has been
provisioned stay; the hostname follows the name, unless the Tsfile gives it one. Without rename the next up would destroy
the old machine and make a new one.

Example, after web: has become front: in the Tsfile:
  tsv halt web
  tsv rename web front
  tsv up`;

const cloneHelp = `
First write the new machine into the Tsfile, with the box or image of the other one. It gets a copy of its files and disks, and
what has been provisioned; hostname, keys, machine-id, addresses and MACs are its own. Volumes of the project and shared folders
are not copied: both use them. Snapshots stay with the old one.

Example, with web-2: beside web: in the Tsfile:
  tsv halt web
  tsv clone web web-2
  tsv up`;

const suspendHelp = `
The memory of a virtual machine is written into its first disk; the host may be turned off then. It goes on at resume, up or
reload as it was, with its clock set; halt and destroy throw the memory away. A container has no memory that can be saved:
without names containers are halted, and started again by resume; one that is named is refused.

Examples:
  tsv suspend
  tsv suspend db && tsv resume db`;

const bringHelp = {
  up: `
A running machine gets new limits (memory, cpus, pids, cpu_shares, io) as it runs, where it can; what else changed of it
restarts it, and another box or image makes it anew. 'tsv plan' says which before.

Examples:
  tsv up
  tsv up web db --timeout 2m
  tsv up --timings   # what took how long`,
  reload: `
Examples:
  tsv reload web`,
} as const;

/** What changes machines. */
export function describeMachines({ program, only, when, define, names, json, parallel, timings }: Describe): void {
  program.commandsGroup('Machines:');
  for (const [name, description] of [
    ['up', 'make the machines as the Tsfile says'],
    ['reload', 'restart machines, with what changed in the Tsfile'],
  ] as const) {
    if (only !== undefined && only !== name) continue;
    names(define(name, description, async () => (await import('./commands/change.ts'))[name] as Handler<never>))
      .option('--provision', 'run all provisioning steps again')
      .option('--no-provision', 'run no provisioning steps')
      .option('--no-cache', 'make new machines without the provision cache, and make that anew')
      .option('--locked', 'fail if Tsfile.lock would have to change')
      .option('--wait', 'until all is reachable, provisioned and, where there is a check, healthy (the default)')
      .option('--no-wait', 'return when the machines have been started; only what others depend on is waited for')
      .option('--timeout <duration>', 'fail when what is waited for takes longer in all, such as 2m', duration)
      .addOption(parallel)
      .addOption(timings)
      .addOption(json)
      .option('-q, --quiet', 'print errors only')
      .addHelpText('after', bringHelp[name]);
  }
  when('wait', () =>
    define(
      'wait',
      'wait until machines are healthy, running, completed or stopped',
      async () => (await import('./commands/wait.ts')).wait as Handler<never>,
    )
      .usage('[options] [names...] healthy|running|completed|stopped')
      .argument('<words...>', 'machines or replica groups, all when none is given; last, what to wait for')
      .option('--timeout <duration>', 'no longer than this, such as 1m30s', duration)
      .addOption(json)
      .addHelpText('after', waitHelp),
  );
  when('rename', () =>
    define(
      'rename',
      'give a machine that does not run the name that it has in the Tsfile now',
      async () => (await import('./commands/rename.ts')).rename as Handler<never>,
    )
      .argument('<old>', 'the machine')
      .argument('<new>', 'its name in the Tsfile')
      .addOption(json)
      .option('-q, --quiet', 'print errors only')
      .addHelpText('after', renameHelp),
  );
  when('clone', () =>
    define(
      'clone',
      'make a machine that is new in the Tsfile as a copy of one that does not run',
      async () => (await import('./commands/clone.ts')).clone as Handler<never>,
    )
      .argument('<name>', 'the machine')
      .argument('<new>', 'the copy, by its name in the Tsfile')
      .addOption(json)
      .option('-q, --quiet', 'print errors only')
      .addHelpText('after', cloneHelp),
  );
  when('provision', () =>
    names(
      define(
        'provision',
        'run the provisioning steps of running machines again',
        async () => (await import('./commands/change.ts')).provisionMachines as Handler<never>,
      ),
    )
      .option('--only <step>', 'only the step of this name')
      .option(
        '--no-cache',
        'new machines, too, run these steps, and what follows them, instead of taking them from the cache',
      )
      .addOption(parallel)
      .addOption(timings)
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
      .addOption(timings)
      .addOption(json)
      .option('-q, --quiet', 'print errors only'),
  );
  for (const [name, description] of [
    ['suspend', 'save virtual machines with their memory, and end them; containers are halted'],
    ['resume', 'let suspended machines go on where they were'],
  ] as const) {
    when(name, () =>
      names(define(name, description, async () => (await import('./commands/change.ts'))[name] as Handler<never>))
        .addOption(parallel)
        .addOption(json)
        .option('-q, --quiet', 'print errors only')
        .addHelpText('after', suspendHelp),
    );
  }
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
      .addOption(timings)
      .addOption(json)
      .option('-q, --quiet', 'print errors only'),
  );
}
