import type { Describe } from './describe.ts';
import type { Handler } from './program.ts';

/** What changes machines. */
export function describeMachines({ program, only, when, define, names, json, parallel }: Describe): void {
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
}
