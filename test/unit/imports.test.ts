import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { describe, expect, test } from 'vitest';

/** The layers of docs/architecture.md, held by reading every import. */
const root = join(import.meta.dirname, '..', '..');

interface Import {
  /** Of the checkout, such as `src/net/sandbox.ts`. */
  readonly from: string;
  /** The same, or the name of a package. */
  readonly to: string;
  /** Loaded with the importing file: neither a type, which is gone by then, nor `import()`. */
  readonly atOnce: boolean;
}

const imports: readonly Import[] = ['src', 'providers'].flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .flatMap((name) => {
      const from = join(folder, name);
      return importsOf(readFileSync(join(root, from), 'utf8')).map(({ to, atOnce }) => ({
        from,
        to: to.startsWith('.') ? relative(root, join(root, dirname(from), to)) : to,
        atOnce,
      }));
    }),
);

/** `import … from 'x'`, `export … from 'x'`, `import 'x'` and `import('x')`. */
function importsOf(text: string): { to: string; atOnce: boolean }[] {
  const code = text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '');
  return [...code.matchAll(/\b(?:(import|export)\s+(type\b)?[^'();]*?from\s*|import\s*(\()?\s*)'([^']+)'/g)].map(
    ([, , type, call, to = '']) => ({
      to,
      atOnce: type === undefined && call === undefined,
    }),
  );
}

/** Imports that `isForbidden` names, one line each. */
const forbidden = (isForbidden: (entry: Import) => boolean): string[] =>
  imports.filter(isForbidden).map(({ from, to }) => `${from} -> ${to}`);

const isBelow = (path: string, ...folders: string[]): boolean =>
  folders.some((folder) => path === `${folder}.ts` || path.startsWith(`${folder}/`));
const isOurs = (path: string): boolean => isBelow(path, 'src', 'providers');
const parts = [
  'config',
  'plan',
  'state',
  'store',
  'lockfile',
  'net',
  'ssh',
  'provision',
  'oci',
  'cgroup',
  'tar',
  'copy',
  'kvm',
].map((name) => `src/${name}`);

describe('imports', () => {
  test('are found at all', () => {
    expect(imports.length).toBeGreaterThan(500);
    expect(imports).toContainEqual({ from: 'src/main.ts', to: 'src/cli/program.ts', atOnce: true });
    expect(imports).toContainEqual({ from: 'src/sys/libc.ts', to: 'koffi', atOnce: true });
    expect(imports).toContainEqual({
      from: 'src/cli/describe-look.ts',
      to: 'src/cli/commands/status.ts',
      atOnce: false,
    });
  });

  test('of the model are of the model only', () => {
    expect(forbidden(({ from, to }) => isBelow(from, 'src/model') && isOurs(to) && !isBelow(to, 'src/model'))).toEqual(
      [],
    );
  });

  test('of sys are of sys and the model only', () => {
    expect(
      forbidden(({ from, to }) => isBelow(from, 'src/sys') && isOurs(to) && !isBelow(to, 'src/sys', 'src/model')),
    ).toEqual([]);
  });

  test.each(parts)('of %s lead to no command, no use case, no agent and no provider', (part) => {
    expect(
      forbidden(({ from, to }) => isBelow(from, part) && isBelow(to, 'src/cli', 'src/app', 'src/agent', 'providers')),
    ).toEqual([]);
  });

  test('of the pure parts lead to nothing that touches the host', () => {
    expect(
      forbidden(
        ({ from, to }) =>
          isBelow(from, 'src/config', 'src/plan') && isBelow(to, 'src/sys', 'src/net', 'src/ssh', 'src/store'),
      ),
    ).toEqual([]);
  });

  test('of the container runtime are its own, of cgroups, sys and the model: it stands alone', () => {
    expect(
      forbidden(
        ({ from, to }) =>
          isBelow(from, 'src/oci') && isOurs(to) && !isBelow(to, 'src/oci', 'src/cgroup', 'src/sys', 'src/model'),
      ),
    ).toEqual([]);
    const spec = 'src/oci/spec.ts';
    expect(
      forbidden(
        ({ from, to }) =>
          isBelow(from, 'src/cgroup') &&
          isOurs(to) &&
          to !== spec &&
          !isBelow(to, 'src/cgroup', 'src/sys', 'src/model'),
      ),
    ).toEqual([]);
  });

  test('of a provider are of what a provider may know, and of no other provider', () => {
    const allowed = [
      'src/model',
      'src/sys',
      'src/net',
      'src/ssh',
      'src/store',
      'src/state/paths',
      'src/oci',
      'src/cgroup',
      'src/copy',
      'src/kvm',
    ];
    expect(
      forbidden(({ from, to }) => {
        if (!isBelow(from, 'providers') || !isOurs(to)) return false;
        return !isBelow(to, ...allowed, join('providers', from.split('/')[1] ?? ''));
      }),
    ).toEqual([]);
  });

  test('of providers are in one place, where everything is put together', () => {
    expect([
      ...new Set(
        imports
          .filter(({ from, to }) => isBelow(to, 'providers') && !isBelow(from, 'providers'))
          .map(({ from }) => from),
      ),
    ]).toEqual(['src/app/context.ts']);
  });

  test('of the command line are its own and those of the process edge', () => {
    expect(
      forbidden(
        ({ from, to }) =>
          isBelow(to, 'src/cli') &&
          !isBelow(from, 'src/cli') &&
          !['src/docs-main.ts', 'src/main.ts', 'src/oci-main.ts'].includes(from),
      ),
    ).toEqual([]);
  });

  test('of the agent lead to no command line; its use cases meet only at its edge', () => {
    expect(forbidden(({ from, to }) => isBelow(from, 'src/agent') && isBelow(to, 'src/cli', 'src/app'))).toEqual([]);
    expect(forbidden(({ to }) => to === 'src/agent-main.ts' || to === 'src/main.ts')).toEqual([]);
  });

  test('of native code are in one file', () => {
    expect(forbidden(({ from, to }) => to === 'koffi' && from !== 'src/sys/libc.ts')).toEqual([]);
  });

  test('lead to no file that is not there', () => {
    const files = new Set(readdirSync(root, { recursive: false, encoding: 'utf8' }));
    const there = (path: string): boolean =>
      files.has(path) || readdirSync(join(root, dirname(path))).includes(path.split('/').at(-1) ?? '');
    expect(forbidden(({ to }) => isOurs(to) && !there(to))).toEqual([]);
  });

  test('go around in no circle', () => {
    const next = new Map<string, string[]>();
    for (const { from, to, atOnce } of imports)
      if (atOnce && isOurs(to)) next.set(from, [...(next.get(from) ?? []), to]);
    const done = new Set<string>();
    const circles: string[] = [];
    const visit = (file: string, path: readonly string[]): void => {
      if (path.includes(file)) circles.push([...path.slice(path.indexOf(file)), file].join(' -> '));
      if (done.has(file) || path.includes(file)) return;
      for (const to of next.get(file) ?? []) visit(to, [...path, file]);
      done.add(file);
    };
    for (const file of next.keys()) visit(file, []);
    expect(circles).toEqual([]);
  });
});

test('the process ends in one place', () => {
  const edges = ['src/main.ts', 'src/agent-main.ts', 'src/oci-main.ts'];
  const places = ['src', 'providers'].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => join(folder, name))
      .filter((file) => /\bprocess\.exit\(/.test(readFileSync(join(root, file), 'utf8'))),
  );
  // A second Ctrl-C ends at once, and a thread that cannot return to its namespace must not go on.
  expect(places.filter((file) => !edges.includes(file)).sort()).toEqual([
    'src/cli/progress.ts',
    'src/net/sockets-worker.ts',
  ]);
});
