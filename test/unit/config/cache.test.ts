import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { isUnchanged } from '../../../src/config/fingerprint.ts';
import { loadProject } from '../../../src/config/index.ts';
import { boxes, folder, headlines, load, machine, machines } from './support.ts';

const cached = async (text: string) => {
  const { machines: all } = await load(text);
  return all.map(({ name, cache = false }) => [name, cache]);
};

test('cache is off, and on by defaults or by the machine, whose own word counts', async () => {
  const three = '  a: { image: d }\n  b: { image: d, cache: false }\n  c: { image: d, cache: true }\n';
  expect(await cached(machines(three))).toEqual([
    ['a', false],
    ['b', false],
    ['c', true],
  ]);
  expect(await cached(machines(three, 'defaults: { cache: true }\n'))).toEqual([
    ['a', true],
    ['b', false],
    ['c', true],
  ]);
});

test('virtual machines can have it, too', async () => {
  expect(await cached(machines('  v: { box: d, cache: true }\n  w: { box: d }\n'))).toEqual([
    ['v', true],
    ['w', false],
  ]);
  expect(await headlines(machines('  a: { image: d, cache: sometimes }\n'))).toHaveLength(1);
});

const value = (name: string) => `\${${name}}`;

test('values of variables count as secrets: in a step, in the env of the machine or of defaults, unless the step says cache', async () => {
  const variables = { TOKEN: 'hush', EMPTY: '' };
  const uncached = async (step: string, more = '', defaults = '') => {
    const text = machines(`  a: { image: d, cache: true, ${more} provision: [${step}] }\n`, defaults);
    return machine(await load(text, variables), 'a').provision.map((one) => one.uncached ?? false);
  };
  const shell = (more: string) => `{ shell: { inline: "true" }, ${more} }`;
  expect(await uncached(shell(''))).toEqual([false]);
  expect(await uncached(shell(`env: { T: "${value('TOKEN')}" }`))).toEqual([true]);
  expect(await uncached(shell(`args: ["--token=${value('TOKEN')}"]`))).toEqual([true]);
  expect(await uncached(shell(`args: ["--token=${value('TOKEN')}"], cache: true`))).toEqual([false]);
  expect(await uncached(shell(`args: ["${value('NONE:-usual')}", "$$", "${value('EMPTY:-usual')}"]`))).toEqual([false]);
  expect(await uncached(shell(''), `env: { T: "${value('TOKEN')}" },`)).toEqual([true]);
  expect(await uncached(shell(''), '', `defaults: { env: { T: "${value('TOKEN')}" } }\n`)).toEqual([true]);
  expect(await uncached(shell('cache: false'))).toEqual([true]);
});

test('what a step takes from the host is seen to have changed: bytes, and modes of files and of the folder itself', async () => {
  const dir = folder({ 's.sh': 'true\n' });
  mkdirSync(join(dir, 'conf'));
  writeFileSync(join(dir, 'conf', 'x'), '');
  chmodSync(join(dir, 'conf'), 0o755);
  const text = machines(
    '  a: { image: d, provision: [{ shell: s.sh }, { file: { source: conf, destination: /c } }] }\n',
  );
  writeFileSync(join(dir, 'Tsfile.yaml'), text);
  const steps = machine(await loadProject(dir, { env: {}, boxes }), 'a').provision;
  expect(steps.map(isUnchanged)).toEqual([true, true]);
  chmodSync(join(dir, 'conf'), 0o700);
  writeFileSync(join(dir, 's.sh'), 'false\n');
  expect(steps.map(isUnchanged)).toEqual([false, false]);
  chmodSync(join(dir, 'conf'), 0o755);
  expect(steps.map(isUnchanged)).toEqual([false, true]);
  chmodSync(join(dir, 'conf', 'x'), 0o600);
  expect(steps.map(isUnchanged)).toEqual([false, false]);
});
