import { resolve } from 'node:path';
import packageJson from '../package.json' with { type: 'json' };
import { createProgram, type Session, usageError } from './cli/program.ts';
import { toTsvError } from './model/errors.ts';

/** Commands that are to start at once: the others' options are not even described for them. */
const asksOften = ['status', 'exec', 'ssh', 'ssh-proxy'];

/** The command's process: the only place that ends it. */
async function main(): Promise<number> {
  // `tsv logs | head`: whoever reads has enough. The command itself goes on to its end where it changes something.
  process.stdout.on('error', onOutputError);
  process.stderr.on('error', onOutputError);
  let code = 0;
  const first = process.argv[2] ?? '';
  const only = asksOften.includes(first) ? first : undefined;
  const run: Parameters<typeof createProgram>[1] = async (load, args, options, global) => {
    const { chdir, file } = global as { chdir?: string; file?: string };
    const cwd = resolve(chdir ?? '.');
    const session: Session = {
      place: { cwd, env: process.env, ...(file === undefined ? {} : { file: resolve(file) }) },
      commandLine: ['tsv', ...process.argv.slice(2)].join(' '),
      stdin: process.stdin,
      stdout: process.stdout,
      stderr: process.stderr,
    };
    const handler = await load();
    code = await handler(session, args, options as never);
  };
  const program = createProgram(packageJson.version, run, only);
  try {
    await program.parseAsync(process.argv);
    return code;
  } catch (error) {
    const usage = usageError(error);
    if (usage !== undefined && 'exit' in usage) return usage.exit;
    const failure = usage ?? toTsvError(error);
    const [{ renderError }, { readTerminal }] = await Promise.all([
      import('./cli/render/error.ts'),
      import('./cli/render/terminal.ts'),
    ]);
    process.stderr.write(renderError(failure, readTerminal(process.stderr, process.env)));
    return failure.exitCode;
  }
}

function onOutputError(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') throw error;
}

void main().then((code) => {
  process.exitCode = code;
});
