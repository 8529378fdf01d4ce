// Side by side with what a user would use instead. Prints a table; a run of everything also writes bench/results.md.
//
//   node bench/run.mjs [--only NAME]... [--rounds N]
//
// Whole processes are timed, all of a row in one run and in turn. The wanted ratios are information: nothing fails.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { cache } from './cache.mjs';
import { containers } from './containers.mjs';
import { copy } from './copy.mjs';
import { openDocker } from './docker.mjs';
import { exec } from './exec.mjs';
import { images } from './images.mjs';
import { logs } from './logs.mjs';
import { describeMachine } from './machine.mjs';
import { manyContainers } from './many.mjs';
import { oci } from './oci.mjs';
import { rest } from './rest.mjs';
import { start } from './start.mjs';
import { status } from './status.mjs';
import { printTable } from './table.mjs';
import { vagrant } from './vagrant.mjs';
import { vm } from './vm.mjs';

const all = [status, exec, oci, start, containers, manyContainers, images, logs, copy, cache, rest, vm, vagrant];
const { values: options } = parseArgs({
  options: { only: { type: 'string', multiple: true }, rounds: { type: 'string' } },
});
const unknown = (options.only ?? []).filter((name) => !all.some((row) => row.name === name));
if (unknown.length > 0 || (options.rounds !== undefined && !/^[1-9]\d*$/.test(options.rounds))) {
  console.error(`bench: --only takes ${all.map(({ name }) => name).join(', ')}; --rounds takes a number, 1 or more`);
  process.exit(2);
}

// Where it is set, every start of Node reads these certificates, ours and `node -e 0` alike: nothing that is measured here needs them.
delete process.env.NODE_EXTRA_CA_CERTS;

const say = (text) => console.error(`bench: ${text}`);
const dir = mkdtempSync(join(tmpdir(), 'tsv-bench-'));
const undo = [];
const cleanup = (action) => undo.push(action);
const skipped = new Set();
const skip = (why) => {
  if (!skipped.has(why)) say(`skipped: ${why}`);
  skipped.add(why);
};
const noted = [];
const note = (text) => noted.push(text);
// Ctrl-C reaches what runs now, too; its failure ends the run below, after the clean-up.
let interrupted = false;
process.on('SIGINT', () => {
  interrupted = true;
});

let opening;
const docker = () => (opening ??= openDocker({ dir, cleanup, skip }));
const loadBefore = loadavg()[0];
try {
  const rows = [];
  for (const { name, rounds, run } of all.filter((row) => options.only?.includes(row.name) ?? true)) {
    say(name);
    // What the others have measured is not lost with it.
    await run({ dir, rounds: Number(options.rounds ?? rounds), cleanup, docker, skip, note }).then(
      (measured) => rows.push(...measured),
      (error) => {
        if (interrupted) throw error;
        say(`${name} failed: ${error.message}`);
        process.exitCode = 1;
      },
    );
  }
  const machine = await describeMachine({ loadBefore, docker: await opening });
  const table = printTable(rows);
  const notes = [...machine, ...noted, ...[...skipped].map((why) => `skipped: ${why}`)]
    .map((line) => `- ${line}`)
    .join('\n');
  console.log(`${table}\n\n${notes}`);
  if (options.only === undefined && process.exitCode === undefined)
    writeFileSync(join(import.meta.dirname, 'results.md'), resultsPage(table, notes));
} catch (error) {
  say(error.message);
  process.exitCode = 1;
} finally {
  for (const action of undo.reverse()) {
    try {
      await action();
    } catch (error) {
      say(`could not clean up: ${error.message}`);
    }
  }
  rmSync(dir, { recursive: true, force: true });
}

function resultsPage(table, notes) {
  const date = new Date().toISOString().slice(0, 10);
  return `# Side by side

Written by \`npm run bench\` on ${date}. Medians of whole processes, the least and the most in brackets; the ratio is that of the medians. All of a row ran in one run and in turn.

${table}

${notes}

The four containers have the same root file system, \`sleep\` or a small init as their only process, and one network with a way out. The QEMU by hand has the same kernel, initrd, overlay and devices; its network is QEMU's own. It is timed up to the greeting of its SSH server, \`tsv up\` until a login has worked. A warm start of \`tsv up\` ends when the machine says that its SSH server listens at its address; the first login is in the row with the first command. Vagrant's VM has the disk, the kernel and the initrd of tsv's own box, the same memory and one CPU, emulated as well; its box lies in libvirt's pool already, nothing is shared with it and no key exchanged. A start within the agent is the time that \`tsv up --json\` gives for the step; \`runc run\` is timed with its end and clean-up. Memory is what \`MemAvailable\` has lost, divided by the containers.
`;
}
