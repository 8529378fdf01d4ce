import type { Describe } from './describe.ts';
import type { Handler } from './program.ts';

/** What is about the Tsfile and its lock file. */
export function describeProject({ program, when, define, names, json }: Describe): void {
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
}
