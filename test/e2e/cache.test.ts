import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { Plan } from '../../src/model/plan.ts';
import { killNow } from '../support/cli.ts';
import { type Fixture, fixture } from '../support/fixture.ts';
import { boxStore, type ImageStore } from '../support/image-store.ts';
import { rootTest } from '../support/root.ts';
import { until } from '../support/until.ts';

/** What lies in the provision cache, locks and unfinished ones among it. */
function cached({ store }: ImageStore): string[] {
  const folder = join(store, 'cache');
  return existsSync(folder) ? readdirSync(folder).flatMap((map) => readdirSync(join(folder, map))) : [];
}

/** Tells one run of a step from another. */
const mark = (name: string) => `echo ${name} $(cat /proc/sys/kernel/random/uuid) >>/log`;
const log = async (project: Fixture, machine = 'web') => (await project.ok(`exec ${machine} -- cat /log`)).stdout;

const tsfile = (steps: string, more = '') => `
version: 1
project: cached
defaults: { memory: 64M, cache: true }
networks: { default: { mode: isolated } }
machines:
  web:
    image: debian-12
    ${more}
    provision:
${steps}`;
const step = (name: string, script: string, more = '') =>
  `      - { name: ${name}, shell: { inline: '${script}' }${more} }\n`;

async function planned(project: Fixture): Promise<string[]> {
  const { code, stdout } = await project.tsv('plan --json');
  expect(code).toBe(2);
  const { nodes } = JSON.parse(stdout) as Plan;
  return nodes.flatMap(({ action }) =>
    action.do === 'machine.cached' || action.do === 'machine.provision'
      ? [`${action.do === 'machine.cached' ? 'cached' : 'run'} ${action.step}`]
      : [],
  );
}

const again = async (project: Fixture, up = 'up') => {
  await project.ok('destroy -f');
  return project.ok(up);
};

describe('the provision cache', () => {
  test('gives a new machine what the same steps have made before, and runs those that come after', async () => {
    const store = boxStore();
    const first = `${mark('first')}; rm /etc/issue; rm -r /etc/apt; mkdir -m 700 /etc/apt; chown 33:33 /etc/apt; ln /log /log2`;
    const steps = (second: string) =>
      step('first', first) +
      step('second', `${mark(second)}; chmod 4755 /log2`) +
      step('each', mark('each'), ', run: always') +
      step('last', mark('last'));
    const project = fixture({ 'Tsfile.yaml': tsfile(steps('second')) }, store.env);
    expect(await planned(project)).toEqual(['run first', 'run second', 'run each', 'run last']);
    await project.ok('up');
    expect(cached(store)).toHaveLength(2);
    const before = (await log(project)).split('\n');
    await project.ok('destroy -f');
    expect(await planned(project)).toEqual(['cached first', 'cached second', 'run each', 'run last']);
    expect((await project.tsv('plan')).stdout).toMatch(/^ +first, second +cached$/m);
    const { stderr } = await project.ok('up');
    expect(stderr).toMatch(/^web +first cached$/m);
    const after = (await log(project)).split('\n');
    expect(after.slice(0, 2)).toEqual(before.slice(0, 2));
    expect(after.map((line) => line.split(' ')[0])).toEqual(['first', 'second', 'each', 'last', '']);
    expect(after.slice(2, 4)).not.toEqual(before.slice(2, 4));
    const look = [
      'exec',
      'web',
      '--',
      'sh',
      '-c',
      'stat -c "%a %u %h %n" /etc/apt /log2; ls -A /etc/apt; ls /etc/issue',
    ];
    const seen = await project.tsv(look);
    expect(seen.stdout).toBe('700 33 2 /etc/apt\n4755 0 2 /log2\n');
    expect(seen.stderr).toContain('No such file');
    // It counts as provisioned, for status and for the next up.
    expect((await project.status()).machines[0]?.provisioned).toBe('4/4');
    expect(await planned(project)).toEqual(['run each']);

    project.edit((text) => text.replace('echo second', 'echo changed'));
    await again(project);
    const changed = (await log(project)).split('\n');
    expect(changed[0]).toBe(before[0]);
    expect(changed.map((line) => line.split(' ')[0])).toEqual(['first', 'changed', 'each', 'last', '']);
    // Its layer rests on the first one's.
    await again(project);
    expect((await log(project)).split('\n').slice(0, 2)).toEqual(changed.slice(0, 2));
    await store.ok('store verify');
  });

  test('is left out and made anew with --no-cache, forgotten by provision --no-cache, and not used by --no-provision', async () => {
    const store = boxStore();
    const project = fixture({ 'Tsfile.yaml': tsfile(step('first', mark('first'))) }, store.env);
    await project.ok('up');
    const one = await log(project);
    await again(project, 'up --no-cache');
    const two = await log(project);
    expect(two).not.toBe(one);
    await again(project);
    expect(await log(project)).toBe(two);
    await project.ok('provision --no-cache');
    expect((await log(project)).split('\n')).toHaveLength(3);
    await project.ok('destroy -f');
    expect(await planned(project)).toEqual(['run first']);
    await project.ok('up --no-provision');
    expect((await project.tsv('exec web -- test -e /log')).code).toBe(1);
  });

  test('keeps nothing of a machine that a failed step or somebody else has touched', async () => {
    const store = boxStore();
    const steps = step('first', mark('first')) + step('second', '[ -e /allowed ]') + step('third', 'true');
    const project = fixture({ 'Tsfile.yaml': tsfile(steps) }, store.env);
    expect((await project.tsv('up')).code).toBe(1);
    await project.ok('exec web -- touch /allowed');
    await project.ok('up');
    expect(cached(store)).toHaveLength(1);
    // The same while up is at work.
    project.edit((text) => text.replace('[ -e /allowed ]', 'while ! [ -e /allowed ]; do sleep 0.05; done'));
    await project.ok('destroy -f');
    const up = project.start('up', { input: '' });
    await up.prints(/provision second/);
    await project.ok('exec web -- touch /allowed');
    expect((await up.result).code).toBe(0);
    expect(cached(store)).toHaveLength(1);
  });

  test('keeps nothing under the name of a script that was changed while it ran', async () => {
    const store = boxStore();
    const steps = `${step('first', mark('first'))}      - { name: slow, shell: slow.sh }\n`;
    const waits = 'while ! [ -e /out/go ]; do sleep 0.05; done\n';
    const project = fixture(
      { 'Tsfile.yaml': tsfile(steps, 'share: [{ host: out, guest: /out }]'), 'slow.sh': waits, 'out/some': '' },
      store.env,
    );
    const up = project.start('up', { input: '' });
    await up.prints(/provision slow/);
    project.write('slow.sh', 'true\n');
    project.write('out/go', '');
    const { code, stderr } = await up.result;
    expect(code).toBe(0);
    expect(stderr).toMatch(/slow is not cached.*changed on the host/);
    expect(cached(store)).toHaveLength(1);
  });

  test('does not hold what a step did to a volume: such a step, and those after it, run for each machine', async () => {
    const store = boxStore();
    const steps = step('outside', mark('outside')) + step('inside', 'echo some >/data/some') + step('after', 'true');
    const text = `${tsfile(steps, 'volumes: ["data:/data"]')}volumes: { data: {} }\n`;
    const project = fixture({ 'Tsfile.yaml': text }, store.env);
    const { stderr } = await project.ok('up');
    expect(stderr).toMatch(/inside is not cached.*the volume \/data has changed/);
    expect(cached(store)).toHaveLength(1);
    await again(project);
    expect((await project.ok('exec web -- cat /data/some')).stdout).toBe('some\n');
  });

  test('makes a layer once where two machines want it at once, and neither sees what the other does upon it', async () => {
    const store = boxStore();
    const machine = (name: string) =>
      `  ${name}: { image: debian-12, hostname: same, provision: [{ name: first, shell: { inline: '${mark('first')}' } }] }\n`;
    const head = tsfile('').split('  web:')[0];
    const project = fixture({ 'Tsfile.yaml': `${head}${machine('a')}${machine('b')}` }, store.env);
    await project.ok('up');
    expect(cached(store)).toHaveLength(1);
    await again(project);
    const common = await log(project, 'a');
    expect(await log(project, 'b')).toBe(common);
    expect(common.split('\n')).toHaveLength(2);
    await project.ok(['exec', 'a', '--', 'sh', '-c', 'echo mine >>/log']);
    expect(await log(project, 'b')).toBe(common);
  });

  test('gc keeps what machines use, and what new ones may; --all and a month take the latter', async () => {
    const store = boxStore();
    const project = fixture({ 'Tsfile.yaml': tsfile(step('first', mark('first'))) }, store.env);
    const row = async () => {
      const { rows } = JSON.parse(await store.ok('store df --json')) as { rows: { type: string; count: number }[] };
      return rows.find(({ type }) => type === 'provision layers');
    };
    await project.ok('up');
    await again(project);
    const kept = await log(project);
    await store.ok('store gc --all -y');
    await project.ok('halt');
    await store.ok('store gc --all -y');
    await project.ok('up');
    expect(await log(project)).toBe(kept);
    expect(await row()).toMatchObject({ count: 1, reclaimableAllBytes: 0 });
    await project.ok('destroy -f');
    await store.ok('store gc -y');
    expect(await planned(project)).toEqual(['cached first']);
    const [name = ''] = cached(store);
    const [map = ''] = readdirSync(join(store.store, 'cache'));
    const long = new Date(Date.now() - 31 * 24 * 3600 * 1000);
    utimesSync(join(store.store, 'cache', map, name, 'layer.json'), long, long);
    await store.ok('store gc -y');
    expect(cached(store)).toEqual([]);
    expect(await planned(project)).toEqual(['run first']);

    // Nobody knows the project any more, and new machines would not be made from it: it is mounted, all the same.
    await project.ok('up');
    await again(project);
    writeFileSync(join(store.store, 'cache', map, cached(store)[0] ?? '', 'forgotten'), '');
    rmSync(join(store.store, 'projects'), { recursive: true });
    await store.ok('store gc -y');
    expect(await log(project)).toMatch(/^first /);
    await project.ok('destroy -f');
    await store.ok('store gc -y');
    expect(cached(store)).toEqual([]);
  });

  test('F1 a machine whose agent is killed as a layer is made runs on; the half of it is never used, and goes', async () => {
    const store = boxStore();
    const bin = join(store.dir, 'bin');
    const [hold, held] = [join(bin, 'hold'), join(bin, 'held')];
    mkdirSync(bin);
    // It has copied all, and has not ended.
    const copy = `#!/bin/sh\n/bin/cp "$@" || exit\ncase "$*" in *xattr*) touch ${held}; while [ -e ${hold} ]; do sleep 0.05; done;; esac\n`;
    writeFileSync(join(bin, 'cp'), copy);
    chmodSync(join(bin, 'cp'), 0o755);
    writeFileSync(hold, '');
    const env = { ...store.env, PATH: `${bin}:${process.env.PATH}` };
    const project = fixture({ 'Tsfile.yaml': tsfile(step('first', mark('first'))) }, env);
    const up = project.start('up', { input: '' });
    await until('the layer is copied', () => existsSync(held));
    await killNow(project.agentPid() ?? 0);
    expect((await up.result).code).not.toBe(0);
    rmSync(hold);
    expect(cached(store).some((name) => name.startsWith('.new.'))).toBe(true);
    await project.ok('up');
    const before = await log(project);
    expect(before.split('\n')).toHaveLength(2);
    await project.ok('destroy -f');
    expect(await planned(project)).toEqual(['run first']);
    await project.ok('up');
    expect(await log(project)).not.toBe(before);
    expect(cached(store)).toEqual([expect.stringMatching(/^[0-9a-f]{64}\.1\./)]);
  });

  rootTest('it fills a file system of its own')(
    'F6 a full disk is told, and stops nothing: what can be kept is kept, nothing of the rest',
    async () => {
      const store = boxStore();
      const folder = join(store.store, 'cache');
      mkdirSync(folder);
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=512k', 'none', folder]);
      onTestFinished(() => void execFileSync('umount', [folder]));
      const steps =
        step('small', mark('small')) + step('large', 'head -c 2M /dev/urandom >/large') + step('last', 'true');
      const project = fixture({ 'Tsfile.yaml': tsfile(steps) }, store.env);
      const { stderr } = await project.ok('up');
      expect(stderr).toMatch(/large is not cached.*No space left on device/);
      expect(cached(store)).toHaveLength(1);
      await project.ok('destroy -f');
      expect(await planned(project)).toEqual(['cached small', 'run large', 'run last']);
    },
  );
});
