import { type ChildProcess, spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import { onTestFinished } from 'vitest';
import type { Descriptor } from '../../src/model/image.ts';

/** Bundles ingest-child.ts into `folder` and returns the file that plain `node` runs. */
export async function buildIngest(folder: string): Promise<string> {
  const { resolve } = createRequire(import.meta.url);
  const outfile = join(folder, 'ingest.mjs');
  await build({
    entryPoints: [join(import.meta.dirname, 'ingest-child.ts')],
    bundle: true,
    platform: 'node',
    format: 'esm',
    outfile,
    logLevel: 'error',
    plugins: [
      {
        // Both stay where they are: one is native code, the other large.
        name: 'packages-by-path',
        setup({ onResolve }) {
          onResolve({ filter: /^(koffi|undici)$/ }, ({ path }) => ({
            path: pathToFileURL(resolve(path)).href,
            external: true,
          }));
        },
      },
    ],
  });
  return outfile;
}

export interface IngestProcess {
  readonly child: ChildProcess;
  /** Lines so far. */
  readonly lines: () => readonly string[];
  /** Resolves when the blob has so many bytes, as this process sees it. */
  readonly reached: (bytes: number) => Promise<void>;
  /** The last line, when the process has ended. */
  readonly ended: Promise<string>;
}

/** `argv`: what runs the program, `['node', PROGRAM]` at the end. The process ends with the test at the latest. */
export function startIngest(
  argv: readonly string[],
  folder: string,
  url: string,
  { digest, size }: Pick<Descriptor, 'digest' | 'size'>,
  env: NodeJS.ProcessEnv = process.env,
): IngestProcess {
  const [program = '', ...words] = argv;
  const child = spawn(program, [...words, folder, url, digest, String(size)], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env,
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  let output = '';
  let look = () => {};
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
    look();
  });
  const lines = () => output.trimEnd().split('\n');
  return {
    child,
    lines,
    reached: (bytes) =>
      new Promise((resolve, reject) => {
        look = () => lines().some((line) => Number(line) >= bytes) && resolve();
        child.once('close', () => reject(new Error(`it ended before it had ${bytes} bytes:\n${output}`)));
        look();
      }),
    ended: new Promise((resolve) => child.once('close', () => resolve(lines().at(-1) ?? ''))),
  };
}
