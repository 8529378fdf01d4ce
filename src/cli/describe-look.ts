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
    )
      .option('-w, --watch', 'show it anew whenever it changes, until Ctrl-C')
      .addOption(json)
      .addHelpText(
        'after',
        '\nExamples:\n  tsv status --watch\n  tsv status --watch --json | jq --unbuffered -c .machines',
      ),
  );
  when('inspect', () =>
    define(
      'inspect',
      'all that is known of machines, as a JSON array',
      async () => (await import('./commands/inspect.ts')).inspect as Handler<never>,
    )
      .argument('<names...>', 'machines or replica groups')
      .option('-f, --format <path>', 'print only what is at this path, for each machine')
      .option('--json', 'as JSON, which is the default; with --format: texts, too')
      .addHelpText(
        'after',
        '\nA path names members with dots and elements with brackets; {{ }} puts paths into a text.\n' +
          '\nExamples:\n  tsv inspect web --format .networks.default.address\n' +
          "  tsv inspect web db --format '{{.name}}: {{.state}}, {{.limits.memoryBytes}} bytes'",
      ),
  );
  when('ls', () =>
    define(
      'ls',
      'all projects of this user on this host that have machines',
      async () => (await import('./commands/ls.ts')).ls as Handler<never>,
    )
      .option('-q, --quiet', 'print their folders only')
      .addOption(json)
      .addHelpText(
        'after',
        '\nExamples:\n  tsv ls\n  tsv ls -q | while read -r folder; do tsv -C "$folder" halt; done',
      ),
  );
  when('stats', () =>
    names(
      define(
        'stats',
        'what running machines use: CPU, memory, processes, network, disk',
        async () => (await import('./commands/stats.ts')).stats as Handler<never>,
      ),
    )
      .option('--no-stream', 'one second only')
      .addOption(json)
      .addHelpText('after', '\nExamples:\n  tsv stats\n  tsv stats web --no-stream --json | jq .cpuPercent'),
  );
  when('top', () =>
    define('top', 'the processes of a machine', async () => (await import('./commands/top.ts')).top as Handler<never>)
      .argument('<name>', 'the machine')
      .addOption(json)
      .addHelpText('after', '\nExamples:\n  tsv top web\n  tsv top web --json | jq -r ".[].hostPid"'),
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
