import { type Describe, wholeNumber } from './describe.ts';
import type { Handler } from './program.ts';

/** What only looks. */
export function describeLook({ program, when, define, names, json }: Describe): void {
  program.commandsGroup('Look:');
  when('status', () =>
    define(
      'status',
      'machines and their state',
      async () => (await import('./commands/status.ts')).status as Handler<never>,
    ).addOption(json),
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
}
