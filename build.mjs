import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative, resolve } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import standaloneCode from 'ajv/dist/standalone/index.js';
import { build } from 'esbuild';

/**
 * Bundles into dist/: the command in one small file, so that what is asked often (status, exec, ssh) starts at once; what only
 * some commands need, the agent and its socket thread beside it, in files that share their common parts.
 */
const common = {
  bundle: true,
  platform: 'node',
  target: 'node20.19',
  minifySyntax: true,
  minifyWhitespace: true,
  sourcemap: 'linked',
  sourcesContent: false,
  // Both find parts of theirs beside their own files.
  external: ['koffi', 'ssh2'],
  logLevel: 'warning',
};

/** validator.ts compiles the schema of its folder; what is built has it compiled. */
const compiledSchema = {
  name: 'compiled-schema',
  setup({ onLoad }) {
    onLoad({ filter: /\/src\/(?:config|oci)\/validator\.ts$/ }, ({ path }) => {
      const folder = dirname(path);
      const read = (file) => JSON.parse(readFileSync(join(folder, file), 'utf8'));
      const ajv = new Ajv2020({ ...read('ajv-options.json'), code: { source: true, esm: true } });
      const schema = read(folder.endsWith('/oci') ? 'config.schema.json' : 'tsfile.schema.json');
      const code = standaloneCode.default(ajv, ajv.compile(schema));
      return {
        contents: `${code}\nexport const schemaValidator = () => validate;\n`,
        resolveDir: folder,
        loader: 'js',
      };
    });
  },
};

/** Loaded with the command itself. */
const inCommand = ['status', 'ls', 'exec', 'ssh', 'ssh-proxy', 'port', 'image-list'].map(
  (name) => `src/cli/commands/${name}.ts`,
);
/** What an `up` asks for that makes machines. */
const inWork = [
  'src/app/agent.ts',
  'src/app/sources.ts',
  'src/plan/targets.ts',
  'src/store/projects.ts',
  'src/sys/flock.ts',
];
/** Asked for by many commands, or large: bundles of their own, kept compiled like the command itself. */
const compiled = [
  { name: 'config', source: 'src/config/index.ts', inline: 'all' }, // with the YAML parser
  { name: 'change', source: 'src/cli/commands/change.ts', inline: inWork },
  { name: 'snapshot', source: 'src/cli/commands/snapshot.ts', inline: inWork },
  { name: 'agent', source: 'src/agent-main.ts', inline: 'all' },
];
const parts = new Map();
/** What is imported dynamically is a file of its own, but for what is `inline`. */
const separateParts = (inline) => ({
  name: 'separate-parts',
  setup({ onResolve, resolve }) {
    onResolve({ filter: /^\./ }, async ({ path, kind, resolveDir, pluginData }) => {
      if (kind !== 'dynamic-import' || pluginData === 'own') return;
      const found = await resolve(path, { kind, resolveDir, pluginData: 'own' });
      const source = relative('.', found.path);
      const own = compiled.find((one) => one.source === source);
      if (own !== undefined) return { path: `./${own.name}.cjs`, external: true };
      if (inline === 'all' || inline.includes(source)) return found;
      const name = source
        .replace(/^src\//, '')
        .replace(/\.ts$/, '')
        .replaceAll('/', '-');
      parts.set(name, source);
      return { path: `./parts/${name}.js`, external: true };
    });
  },
});

/** Parts share one reader of the Tsfile with the command. */
const sharedReader = {
  name: 'shared-reader',
  setup({ onResolve }) {
    onResolve({ filter: /\/config\/index\.ts$/ }, ({ kind }) =>
      kind === 'dynamic-import' ? { path: '../config.cjs', external: true } : undefined,
    );
  },
};

/** commander needs node:child_process only for commands that are programs of their own, which tsv has none of. */
const lateChildProcess = {
  name: 'late-child-process',
  setup({ onLoad }) {
    onLoad({ filter: /\/commander\/lib\/command\.js$/ }, ({ path }) => ({
      contents: readFileSync(path, 'utf8').replace(
        "const childProcess = require('node:child_process');",
        "const childProcess = { spawn: (...args) => require('node:child_process').spawn(...args) };",
      ),
    }));
  },
};

/** Runs src/docs-main.ts, which needs only the description of the commands. */
async function writeDocs(what) {
  const { outputFiles } = await build({
    ...common,
    write: false,
    sourcemap: false,
    format: 'cjs',
    outfile: 'docs.cjs',
    entryPoints: ['src/docs-main.ts'],
    plugins: [
      {
        name: 'handlers-left-out',
        setup({ onResolve }) {
          onResolve({ filter: /./ }, ({ kind, path }) =>
            kind === 'dynamic-import' ? { path, external: true } : undefined,
          );
        },
      },
    ],
  });
  execFileSync(process.execPath, ['-', what], { input: outputFiles[0].text, stdio: ['pipe', 'inherit', 'inherit'] });
}

if (process.argv[2] === 'docs') {
  await writeDocs('docs');
  process.exit();
}
rmSync('dist', { recursive: true, force: true });
// CommonJS: Node starts it in less time than a module.
const program = {
  ...common,
  outdir: 'dist',
  outExtension: { '.js': '.cjs' },
  format: 'cjs',
  define: { 'import.meta.url': '__tsvUrl' },
  banner: { js: "const __tsvUrl = require('node:url').pathToFileURL(__filename).href;" },
};
const bundle = (entryPoints, inline, ...plugins) =>
  build({ ...program, entryPoints, plugins: [separateParts(inline), compiledSchema, ...plugins] });
await bundle({ command: 'src/main.ts' }, inCommand, lateChildProcess);
// All of it in one file: its process runs once for each container.
await bundle({ oci: 'src/oci-main.ts' }, 'all');
for (const { name, source, inline } of compiled) await bundle({ [`${name}-code`]: source }, inline);
await build({
  ...common,
  outdir: 'dist/parts',
  format: 'esm',
  // The CommonJS packages in the bundle call require() for Node's own modules.
  banner: {
    js: "import { createRequire as __tsvCreateRequire } from 'node:module'; const require = __tsvCreateRequire(import.meta.url);",
  },
  entryPoints: {
    'sockets-worker': 'src/net/sockets-worker.ts',
    unpack: 'src/unpack-main.ts',
    copy: 'src/copy-main.ts',
    'kvm-check': 'src/kvm-check-main.ts',
    ...Object.fromEntries(parts),
  },
  plugins: [sharedReader, compiledSchema],
  splitting: true,
  chunkNames: 'shared-[hash]',
});
writeFileSync('dist/package.json', '{ "type": "commonjs" }\n');
writeFileSync('dist/parts/package.json', '{ "type": "module" }\n');
copyFileSync('src/cached.cjs', 'dist/cached.cjs');
for (const [name, source] of Object.entries({ 'tsv.js': 'start.cjs', 'tsv-oci.js': 'start-oci.cjs' })) {
  copyFileSync(`src/${source}`, `dist/${name}`);
  chmodSync(`dist/${name}`, 0o755);
}
for (const name of ['command', 'oci', ...compiled.map((one) => `${one.name}-code`)]) {
  const code = readFileSync(`dist/${name}.cjs`, 'utf8');
  // Compiled code that was kept cannot import.
  writeFileSync(`dist/${name}.cjs`, code.replaceAll(/\bimport\((?=["'])/g, 'importPart('));
  writeCodeCache(name);
}
// By name: an ES module that imports such a bundle finds what it exports by reading this.
const { run } = createRequire(import.meta.url)('./dist/cached.cjs');
for (const { name } of compiled) {
  const start = `require('./cached.cjs').run('${name}-code');\n`;
  const names = name === 'agent' ? [] : Object.keys(run(`${name}-code`));
  const exported = names.map((one) => `exports.${one} = code.${one};\n`).join('');
  writeFileSync(`dist/${name}.cjs`, exported === '' ? start : `const code = ${start}${exported}`);
}

await writeDocs('man');

/** A bundle's compiled code, all functions of it, for the Node that builds; another version passes over it. */
function writeCodeCache(name) {
  const cache = resolve(`dist/${name}-${process.version}.cache`);
  const code = `
    const { setFlagsFromString } = require('node:v8');
    setFlagsFromString('--no-lazy');
    const script = require(${JSON.stringify(resolve('dist/cached.cjs'))}).compile(${JSON.stringify(name)});
    setFlagsFromString('--lazy'); // the flags are part of what has to match
    require('node:fs').writeFileSync(${JSON.stringify(cache)}, script.createCachedData());`;
  execFileSync(process.execPath, ['-e', code], { stdio: ['ignore', 'ignore', 'inherit'] });
}
