import { type Command, Option } from 'commander';
import type { Act } from './describe-store.ts';
import type { Handler } from './program.ts';

/** `tsv snapshot …`. */
export function describeSnapshot(program: Command, act: Act): void {
  const snapshot = program
    .command('snapshot')
    .description('snapshots: machines as they were, to go back to')
    .helpOption('-h, --help', 'print help');
  const command = (name: string, description: string, handler: keyof typeof import('./commands/snapshot.ts')) =>
    snapshot
      .command(name)
      .description(description)
      .helpOption('-h, --help', 'print help')
      .addOption(new Option('--json', 'machine-readable output'))
      .action(act(async () => (await import('./commands/snapshot.ts'))[handler] as Handler<never>));
  const quiet = ['-q, --quiet', 'print errors only'] as const;
  command('save', 'save machines as they are, all at one moment', 'save')
    .argument('[name]', 'what it is to be called; the time, when it is given none')
    .argument('[machines...]', 'machines or replica groups; all when none is given')
    .option('-f, --force', 'in the place of one of this name')
    .option(...quiet)
    .addHelpText('after', saveHelp);
  command('list', 'list them, the oldest first', 'list')
    .alias('ls')
    .argument('[machines...]', 'only those that have one of these')
    .option('-q, --quiet', 'print names only')
    .addHelpText('after', '\nExample:\n  tsv snapshot list --json | jq -r ".[].snapshot"');
  command('restore', 'set machines back to what they were', 'restore')
    .argument('<name>', 'the snapshot')
    .argument('[machines...]', 'of its machines only these')
    .option('--disks-only', 'virtual machines without their memory, as after a power cut; they stay halted')
    .option(...quiet)
    .addHelpText('after', restoreHelp);
  command('delete', 'delete snapshots; the machines stay as they are', 'remove')
    .alias('rm')
    .argument('<name...>', 'snapshots')
    .option(...quiet)
    .addHelpText('after', '\nExample:\n  tsv snapshot delete before-upgrade');
  command('push', 'save all machines under a name of its own', 'push')
    .argument('[machines...]', 'machines or replica groups; all when none is given')
    .option(...quiet)
    .addHelpText('after', '\nExample:\n  tsv snapshot push && ./try-it || tsv snapshot pop');
  command('pop', 'set machines back to what was pushed last, and delete that', 'pop')
    .option('--no-delete', 'keep it: the next pop goes back to it again')
    .option(...quiet)
    .addHelpText('after', '\nExample:\n  tsv snapshot pop --no-delete');
}

const saveHelp = `
The name comes first, then machines: letters, digits, dots, dashes and underscores. Machines that run stand still meanwhile.

Examples:
  tsv snapshot save before-upgrade
  tsv snapshot save clean-db db
  tsv snapshot save`;

const restoreHelp = `
What the machines have become since then is lost. If one of them cannot be set back, nothing is changed.

Examples:
  tsv snapshot restore before-upgrade
  tsv snapshot restore before-upgrade db`;
