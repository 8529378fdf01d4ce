// `npm run demo`: brings this example up, asks its load balancer until every server has answered, and leaves it running.
// `npm run demo -- --destroy` removes it.
import { spawnSync } from 'node:child_process';
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';

const here = import.meta.dirname;
const program = join(here, '../../dist/tsv.js');
const port = process.env.PORT ?? '8080';
const { values } = parseArgs({ options: { destroy: { type: 'boolean' } } });

const tsv = (...args) => {
  console.log(`$ tsv ${args.join(' ')}`);
  const { status } = spawnSync(process.execPath, [program, ...args], { cwd: here, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
};

if (values.destroy) {
  tsv('destroy', '--force');
  process.exit();
}

tsv('up');
tsv('status');

const servers = ['web-1', 'web-2', 'web-3', 'vm'];
const answers = [];
for (let i = 0; i < 2 * servers.length; i++) {
  const response = await fetch(`http://127.0.0.1:${port}/`);
  answers.push((await response.text()).trim());
  console.log(`$ curl http://127.0.0.1:${port}/\n${answers.at(-1)}`);
}
const silent = servers.filter((server) => !answers.includes(server));
if (silent.length > 0) {
  console.error(`\n${silent.join(', ')} did not answer. Look with: tsv logs ${silent[0]}`);
  process.exit(1);
}

console.log(`
All four answer in turn: three containers and one virtual machine, one network, one file.
The project stays up. Try, in ${relative('.', here) || '.'} (tsv is ${relative('.', program)}; \`npm link\` puts it on your PATH):

  tsv status
  tsv ssh vm                          # a shell in the virtual machine
  tsv exec web-1 -- pkill nginx       # the balancer goes on without it
  tsv up                              # and this mends it
  tsv destroy                         # or: npm run demo -- --destroy`);
