import { type Command, Option } from 'commander';
import type { Act } from './describe-store.ts';
import type { Handler } from './program.ts';

/** `tsv volume …`. */
export function describeVolume(program: Command, act: Act): void {
  const volume = program
    .command('volume')
    .description('volumes: what containers of this project keep')
    .helpOption('-h, --help', 'print help');
  const command = (name: string, description: string, handler: keyof typeof import('./commands/volume.ts')) =>
    volume
      .command(name)
      .description(description)
      .helpOption('-h, --help', 'print help')
      .addOption(new Option('--json', 'machine-readable output'))
      .action(act(async () => (await import('./commands/volume.ts'))[handler] as Handler<never>));
  command('list', 'list them, with the machines that have them', 'list')
    .alias('ls')
    .option('-q, --quiet', 'print names only')
    .addHelpText('after', '\nExample:\n  tsv volume ls --json | jq -r ".[].path"');
  command('remove', 'remove volumes that no machine has, with all that is in them', 'remove')
    .alias('rm')
    .argument('<name...>', 'volumes')
    .option('-q, --quiet', 'print errors only')
    .addHelpText('after', '\nExample:\n  tsv destroy db && tsv volume rm data');
}
