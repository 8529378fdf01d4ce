import { resolve } from 'node:path';
import packageJson from '../package.json' with { type: 'json' };
import { createProgram, type Session, usageError } from './cli/program.ts';
import { toTsvError } from './model/errors.ts';

/** Commands that are to start at once: the others' options are not even described for them. */
const asksOften = ['status', 'ls', 'exec', 'run', 'ssh', 'ssh-proxy', 'image', 'store'];

/** The command's process: the only place that ends it. */
async function main(): Promise<number> {
  let code = 0;
  const first = process.argv[2] ?? '';
  const only = asksOften.includes(first) ? first : undefined;
  const run: Parameters<typeof createProgram>[1] = async (load, args, options, global) => {
    const { chdir, file } = global as { chdir?: string; file?: string };
    const cwd = resolve(chdir ?? '.');
    const session: Session = {
      place: { cwd, env: process.env, ...(file === undefined ? {} : { file: resolve(file) }) },
      commandLine: ['tsv', ...process.argv.slice(2)].join(' '),
      // Made by Node when they are first asked for, which takes its time.
      get stdin() {
        return process.stdin;
      },
      get stdout() {
        return output('stdout');
      },
      get stderr() {
        return output('stderr');
      },
    };
    const handler = await load();
    code = await handler(session, args, options as never);
  };
  const program = createProgram(packageJson.version, run, only, (name, text) => output(name).write(text));
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
    output('stderr').write(renderError(failure, readTerminal(process.stderr, process.env)));
    return failure.exitCode;
  }
}

const outputs: NodeJS.WriteStream[] = [];

function output(name: 'stdout' | 'stderr'): NodeJS.WriteStream {
  const stream = process[name];
  if (!outputs.includes(stream)) {
    outputs.push(stream);
    stream.on('error', onOutputError);
  }
  return stream;
}

/** `tsv logs | head`: whoever reads has enough. The command itself goes on to its end where it changes something. */
function onOutputError(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') throw error;
}

void main().then((code) => {
  process.exitCode = code;
  // What is written has been written: on Linux these streams do not work behind our back, whatever they lead to. Node
  // would now take its memory apart, piece by piece; the kernel does that at once.
  if (outputs.every((stream) => stream.writableLength === 0)) process.exit();
});
