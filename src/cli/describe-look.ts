import { InvalidArgumentError } from 'commander';
import type { Describe } from './describe.ts';
import { moment } from './moment.ts';
import type { Handler } from './program.ts';

const timeHelp =
  '\nA time is 2026-01-31, 2026-01-31T12:00:00 (local), 2026-01-31T12:00:00Z, seconds since 1970, or a duration back\nfrom now: 90s, 10m, 1h30m.';

const lineCount = (text: string): number | 'all' => {
  if (text === 'all' || /^\d{1,15}$/.test(text)) return text === 'all' ? text : Number(text);
  throw new InvalidArgumentError("a number of lines, or 'all'");
};

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
      .option('-f, --follow', 'go on as they print more, until none of them runs any more')
      .option('-n, --tail <lines>', "only the last lines of each machine, or 'all'", lineCount)
      .option('--since <time>', 'only lines that are not older', moment)
      .option('--until <time>', 'only lines that are not younger', moment)
      .option('-t, --timestamps', 'print when each line was printed')
      .option('--no-prefix', 'leave out the names of the machines')
      .option('--no-color', 'names of machines without colours')
      .addHelpText('after', `\nLines of several machines are in order of time.${timeHelp}`)
      .addHelpText('after', '\nExamples:\n  tsv logs -f web db\n  tsv logs --since 10m --timestamps web-1'),
  );
  when('events', () =>
    names(
      define(
        'events',
        'what happened to machines: made, started, ended and why, unhealthy',
        async () => (await import('./commands/events.ts')).events as Handler<never>,
      ),
    )
      .option('-f, --follow', 'go on as more happens')
      .option('--since <time>', 'only what is not older', moment)
      .option('--until <time>', 'only what is not younger', moment)
      .addOption(json)
      .addHelpText('after', `\nTimes are printed as local time; --json has them in UTC.${timeHelp}`)
      .addHelpText('after', '\nExamples:\n  tsv events --since 1h web\n  tsv events -f --json'),
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
