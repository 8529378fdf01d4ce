import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { packageDir } from './cli.ts';
import type { Outcome } from './guest-vitest.ts';

/* Test files that run inside a virtual machine: what this host's kernel does not have, the guest's has. */

/** Where the package lies in the guest. */
export const guestDir = '/opt/tsv';
/** As deep as the files that it is made of: they look for the package from where they are. */
const bundleName = 'test/bundle/tests.mjs';

/** All that the built command needs at run time, and the bundle of tests: paths in the package, for tar. */
export const guestFiles: readonly string[] = ['dist', 'package.json', ...koffiFiles()];

/** koffi finds its native part by the package beside it. */
function koffiFiles(): string[] {
  const { optionalDependencies = {} } = JSON.parse(
    readFileSync(join(packageDir, 'node_modules/koffi/package.json'), 'utf8'),
  ) as { optionalDependencies?: Record<string, string> };
  const native = Object.keys(optionalDependencies).find((name) => name.endsWith('koffi-linux-x64'));
  const own = ['package.json', 'index.js', 'index.cjs', 'src'].map((name) => `node_modules/koffi/${name}`);
  return [...own, ...(native === undefined ? [] : [`node_modules/${native}`])];
}

/**
 * Bundles test files with Vitest's runner into one module; `node tests.mjs FILE [PATTERN]` runs one of them.
 * @param files paths in the package
 * @returns its path below `folder`, as it is to lie in the guest's package
 */
export async function bundleTests(folder: string, files: readonly string[]): Promise<string> {
  const entries = files.map((file) => `${JSON.stringify(file)}: () => import(${JSON.stringify(`./${file}`)})`);
  await build({
    stdin: {
      contents: `
        import { runFiles } from './test/support/guest-vitest.ts';
        const files = { ${entries.join(', ')} };
        const [name, pattern] = process.argv.slice(2);
        const ok = await runFiles({ [name]: files[name] }, pattern === undefined ? undefined : new RegExp(pattern));
        process.exit(ok ? 0 : 1);`,
      resolveDir: packageDir,
      loader: 'ts',
    },
    outfile: join(folder, bundleName),
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20.19',
    alias: { vitest: join(packageDir, 'test/support/guest-vitest.ts') },
    external: ['koffi'],
    banner: {
      js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
    },
    logLevel: 'warning',
  });
  return bundleName;
}

export const guestBundle = join(guestDir, bundleName);

/** What `node tests.mjs` printed. */
export const readOutcomes = (stdout: string): Outcome[] =>
  stdout
    .trim()
    .split('\n')
    .filter((line) => line.startsWith('{"name"'))
    .map((line) => JSON.parse(line) as Outcome);
