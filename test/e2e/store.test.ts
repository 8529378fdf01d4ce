import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { fixture } from '../support/fixture.ts';
import { blobs, type ImageStore, imageStore, inspect, layers, MeddlingProxy } from '../support/image-store.ts';
import { mustRun } from '../support/registry.ts';
import { teamRegistry } from '../support/team-registry.ts';

const team = teamRegistry();
const app = (tag = '1.0') => `${team().registry.host}/team/app:${tag}`;

describe('the store', () => {
  test('gc keeps what was pulled by hand, removes what nobody names, and asks first', async () => {
    const store = imageStore();
    await store.ok(['image', 'pull', app()]);
    expect(await store.ok('store gc -y')).toBe('nothing to remove\n');
    // Its name now leads elsewhere: what it was is nobody's.
    await store.ok(['image', 'pull', `${team().registry.host}/team/two`]);
    const two = await inspect(store, `${team().registry.host}/team/two`);
    await store.ok(['image', 'tag', app(), `${team().registry.host}/team/two:latest`]);
    const before = blobs(store).length;
    await store.fails('store gc', 'TSV_USAGE', { input: '' });
    const dry = JSON.parse(await store.ok('store gc --dry-run --json')) as { blobs: string[]; layers: string[] };
    expect(dry.blobs).toContain(two.digest);
    expect(dry.layers).toHaveLength(1);
    expect(blobs(store)).toHaveLength(before);
    await store.ok('store gc -y');
    expect(blobs(store)).toHaveLength(before - 3);
    await store.ok('store verify');
    const usage = JSON.parse(await store.ok('store df --json')) as {
      rows: { type: string; count: number; bytes: number; reclaimableAllBytes: number }[];
    };
    const images = usage.rows.find(({ type }) => type === 'images');
    expect(images).toMatchObject({ count: 1, reclaimableAllBytes: images?.bytes });
    await store.ok('store gc --all -y');
    expect(await store.names()).toEqual([]);
    expect(blobs(store)).toEqual([]);
    expect(layers(store)).toEqual([]);
  });

  test('gc waits for a pull, and takes nothing from it', async () => {
    const store = imageStore();
    const proxy = await MeddlingProxy.start(team().registry.host);
    proxy.meddle = ({ size }) => (size > 100_000 ? { holdAfter: 1_000_000 } : undefined);
    const name = `${proxy.host}/team/app:1.0`;
    const held = proxy.held();
    const pull = store.start(['image', 'pull', name], { input: '' });
    await held;
    // Without the lock it would take the config, which has come, and no name leads to it yet.
    const gc = store.start('store gc -y', { input: '' });
    await gc.prints(/\d+ blobs?/);
    proxy.release();
    expect((await pull.result).code).toBe(0);
    const { code, stdout } = await gc.result;
    expect({ code, end: stdout.split('\n').at(-2) }).toEqual({ code: 0, end: '0 B are free again' });
    await store.ok('store verify');
    expect(await store.names()).toEqual([name]);
  });

  test('F24 verify finds a flipped bit and a lost layer, and says how to mend them', async () => {
    const store = imageStore();
    await store.ok(['image', 'pull', app()]);
    const { layers: own } = await inspect(store, app());
    const [lowest] = own;
    const file = join(store.store, 'images', 'blobs', 'sha256', lowest?.digest.slice(7) ?? '');
    const bytes = readFileSync(file);
    bytes[20] = (bytes[20] ?? 0) ^ 1;
    rmSync(file);
    writeFileSync(file, bytes);
    const found = await store.tsv('store verify');
    expect(found.code).toBe(1);
    expect(found.stdout).toContain(lowest?.digest);
    expect(found.stdout).toContain(`tsv image pull ${app()}`);
    expect(existsSync(file), 'the damaged blob').toBe(false);
    expect((await store.tsv('store verify')).code).toBe(1);
    await store.ok(['image', 'pull', app()]);
    await store.ok('store verify');
    const json = JSON.parse(await store.ok('store verify --json')) as { problems: unknown[] };
    expect(json.problems).toEqual([]);
  });
});

describe('an image that machines were made from', () => {
  const name = () => `${team().registry.host}/team/box:1.0`;
  beforeAll(() => {
    mustRun(team().dir, 'sh', '-c', 'mkdir -p box/bin && cp /bin/busybox box/bin/ && ln -s busybox box/bin/sh');
    const image = `${join(team().dir, 'box-layout')}:one`;
    mustRun(team().dir, 'umoci', 'init', '--layout', join(team().dir, 'box-layout'));
    mustRun(team().dir, 'umoci', 'new', '--image', image);
    mustRun(team().dir, 'umoci', 'insert', '--rootless', '--image', image, join(team().dir, 'box'), '/');
    team().registry.push(image, 'team/box:1.0');
  });
  const project = (store: ImageStore) =>
    fixture(
      { 'Tsfile.yaml': `version: 1\nproject: boxed\nmachines:\n  web: { image: "${name()}", memory: 64M }\n` },
      store.env,
    );

  test('F26 is not removed while they run, whoever asks for it; when they do not, only by force', async () => {
    const store = imageStore();
    const machines = project(store);
    await machines.ok('up');
    const answers = async () =>
      expect(await machines.ok('exec -T web -- /bin/busybox echo there')).toMatchObject({ stdout: 'there\n' });
    for (const command of [['rm'], ['rm', '-f']]) {
      const refused = await store.fails(['image', ...command, name()], 'TSV_IN_USE');
      expect(refused).toContain(`web of ${machines.dir} (running)`);
    }
    await store.ok('store gc --all -y');
    await answers();
    await machines.ok('halt');
    const stopped = await store.fails(['image', 'rm', name()], 'TSV_IN_USE');
    expect(stopped).toContain('--force');
    await store.ok(['image', 'rm', '-f', name()]);
    expect(blobs(store)).toEqual([]);
    await store.ok('store verify');
  });

  test('F26 keeps its layers while they are mounted, even if nobody knows the project any more', async () => {
    const store = imageStore();
    const machines = project(store);
    await machines.ok('up');
    rmSync(join(store.store, 'projects'), { recursive: true });
    await store.ok('store gc --all -y');
    expect(await store.names()).toEqual([]);
    expect(layers(store)).toHaveLength(1);
    const look = await machines.ok('exec -T web -- /bin/busybox ls /bin');
    expect(look.stdout).toBe('busybox\nsh\n');
    await machines.ok('destroy -f');
    await store.ok('store gc -y');
    expect(layers(store)).toEqual([]);
  });

  test('stays for as long as their Tsfile names it, and goes with the project', async () => {
    const store = imageStore();
    const machines = project(store);
    await machines.ok('up');
    await machines.ok('destroy -f');
    expect(await store.ok('store gc --all -y')).toBe('nothing to remove\n');
    machines.edit((text) => text.replace(/^ {2}web:.*$/m, '  web: { image: debian-12 }'));
    rmSync(join(machines.dir, 'Tsfile.lock'));
    await store.ok('store gc -y');
    expect(await store.names()).toEqual([]);
    expect(blobs(store)).toEqual([]);
    expect(layers(store)).toEqual([]);
  });
});
