import { chmodSync, rmSync } from 'node:fs';
import { build } from 'esbuild';

/** Bundles the command, the agent and its socket thread into dist/; parts that a command does not need are files of their own. */
rmSync('dist', { recursive: true, force: true });
await build({
  entryPoints: { tsv: 'src/main.ts', agent: 'src/agent-main.ts', 'sockets-worker': 'src/net/sockets-worker.ts' },
  outdir: 'dist',
  bundle: true,
  splitting: true,
  platform: 'node',
  format: 'esm',
  target: 'node20.19',
  minifySyntax: true,
  minifyWhitespace: true,
  sourcemap: 'linked',
  sourcesContent: false,
  chunkNames: 'chunks/[name]-[hash]',
  // Both find parts of theirs beside their own files.
  external: ['koffi', 'ssh2'],
  // The CommonJS packages in the bundle call require() for Node's own modules.
  banner: {
    js: "import { createRequire as __tsvCreateRequire } from 'node:module'; const require = __tsvCreateRequire(import.meta.url);",
  },
  logLevel: 'warning',
});
chmodSync('dist/tsv.js', 0o755);
