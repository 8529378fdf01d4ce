import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { fixture } from '../support/fixture.ts';
import { until } from '../support/until.ts';

const tsfile = `
version: 1
networks: { default: { mode: isolated } }
defaults: { memory: 64M }
volumes:
  data:
  kept: { keep: true }
machines:
  one:
    image: debian-12
    share: [{ host: ./site, guest: /site }]
    volumes: ["data:/var/lib/data", "kept:/kept"]
  two:
    image: debian-12
    volumes: ["data:/data:ro"]
`;

test('volumes are shared, outlive their machines, and go with the project unless they are kept; shares have their owners', async () => {
  const project = fixture({ 'Tsfile.yaml': tsfile });
  mkdirSync(join(project.dir, 'site'));
  const inside = async (machine: string, line: string) =>
    (await project.ok(['exec', machine, '--', 'sh', '-c', line])).stdout;
  const volumes = join(project.dir, '.ts-vm', 'volumes');
  await project.ok('up --quiet');
  await inside('one', 'echo text > /var/lib/data/file; echo kept > /kept/file; touch /site/made');
  expect(statSync(join(project.dir, 'site', 'made')).uid).toBe(process.geteuid?.());
  expect(await inside('two', 'cat /data/file; touch /data/no 2>&1 || true')).toMatch(/^text\n.*Read-only/);
  expect((await project.ok('inspect one --format .volumes[0].host')).stdout).toBe(`${join(volumes, 'data')}\n`);

  await project.ok('destroy --force one two');
  expect(readdirSync(volumes).toSorted()).toEqual(['data', 'kept']);
  await project.ok('up --quiet');
  expect(await inside('two', 'cat /data/file')).toBe('text\n');

  const refused = await project.tsv('volume rm kept');
  expect(refused.code).toBe(1);
  expect(refused.stderr).toMatch(/TSV_IN_USE[\s\S]*volume kept: one/);
  expect((await project.tsv('volume rm dat')).stderr).toContain('did you mean `data`?');

  project.edit((text) =>
    text
      .replace('  data:\n', '')
      .replace('"data:/var/lib/data", ', '')
      .replace(/ {4}volumes: \["data.*\n/, ''),
  );
  expect((await project.tsv('plan')).stdout).toMatch(
    /- volume data +keep +no longer in the Tsfile; tsv destroy removes it/,
  );
  await project.ok('up --quiet');
  expect((await project.tsv('plan')).code).toBe(0);
  expect(readdirSync(volumes).toSorted()).toEqual(['data', 'kept']);
  expect((await project.ok('volume ls')).stdout).toMatch(
    /data +tsv destroy +no longer in the Tsfile[\s\S]*kept +one +tsv volume rm/,
  );

  const asked = project.startOnTerminal('destroy');
  await asked.prints(/Remove one, two with everything in them, and the volume data\? \[y\/N\]/);
  asked.write('n\n');
  expect((await asked.result).code).toBe(1);
  const { stderr } = await project.ok('destroy --force');
  expect(stderr).toContain('kept in .ts-vm/volumes/kept');
  await until('the agent has left', () => readdirSync(join(project.dir, '.ts-vm')).join() === 'volumes');
  expect(readdirSync(volumes)).toEqual(['kept']);
  await project.expectNothingLeft();

  await project.ok('up --quiet one');
  expect(await inside('one', 'cat /kept/file')).toBe('kept\n');
  await project.ok('destroy --force');
  await project.ok('volume rm kept');
  await until('nothing is left', () => !existsSync(join(project.dir, '.ts-vm')));
}, 60_000);
