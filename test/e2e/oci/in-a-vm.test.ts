import { mkdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { packageDir, tsvProgram } from '../../support/cli.ts';
import { type Fixture, sharedFixture } from '../../support/fixture.ts';
import { bundleTests, guestBundle, guestDir, guestFiles, readOutcomes } from '../../support/guest-tests.ts';

/*
 * The container runtime where this host may be another: control groups of v2 alone, with limits, and AppArmor, in a
 * virtual machine. The tests are those that run on any host that has these.
 */

const tsfile = `
version: 1
project: guest
machines:
  vm: { box: debian-12, memory: 1536M, cpus: 2, warm: false }
`;

const files = [
  'test/integration/cgroup-v2.test.ts',
  'test/integration/cgroup-container.test.ts',
  'test/e2e/oci/cgroup-v2.test.ts',
  'test/e2e/oci/apparmor.test.ts',
];

/** Node, the built command and the bundled tests in one archive: the connection is what takes the time. */
async function copyIn(project: Fixture): Promise<void> {
  const folder = join(project.dir, 'guest');
  mkdirSync(folder);
  const bundle = await bundleTests(folder, files);
  const node = process.execPath;
  const parts = [
    ['-C', packageDir, ...guestFiles, 'test/fixtures/apparmor'],
    ['-C', folder, bundle],
    ['-C', dirname(node), `--transform=s,^${basename(node)}$,bin/node,`, basename(node)],
  ].flat();
  const script = `
    set -o pipefail
    tar -I 'gzip -1' -cf - "$@" | "$node" "$tsv" exec vm -- sh -c 'mkdir ${guestDir} && tar -xz --no-same-owner -C ${guestDir}'`;
  const { code, stderr } = await project.run(['bash', '-c', script, 'bash', ...parts], {
    env: { node, tsv: tsvProgram },
  });
  expect(code, stderr).toBe(0);
}

describe('a virtual machine with cgroup v2 and AppArmor', () => {
  const project = sharedFixture(
    'a virtual machine with cgroup v2 and AppArmor',
    { 'Tsfile.yaml': tsfile },
    {
      prepare: async (made) => {
        await made.ok('up', { timeoutMs: 240_000 });
        await copyIn(made);
      },
    },
  );

  test.each(files)('%s', { timeout: 310_000 }, async (file) => {
    const node = join(guestDir, 'bin/node');
    const { code, stdout, stderr } = await project().tsv(['exec', 'vm', '--', node, guestBundle, file], {
      timeoutMs: 300_000,
    });
    const outcomes = readOutcomes(stdout);
    const failed = outcomes.filter(({ state }) => state === 'fail').map(({ name, note }) => `${name}\n${note}`);
    expect(failed.join('\n\n')).toBe('');
    expect(code, `${stdout}${stderr}`).toBe(0);
    // It was chosen because it has all of it.
    const skipped = outcomes.filter(({ state }) => state === 'skip').map(({ name }) => name);
    expect(skipped.filter((name) => !name.startsWith('a container in v1'))).toEqual([]);
  });
});
