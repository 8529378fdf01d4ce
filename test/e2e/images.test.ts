import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { quote, start, startTsvOnTerminal, tsvProgram } from '../support/cli.ts';
import { blobs, imageStore, inspect, layers } from '../support/image-store.ts';
import { testRegistry } from '../support/registry.ts';
import { teamRegistry } from '../support/team-registry.ts';
import { until } from '../support/until.ts';

const team = teamRegistry();
const app = (tag = '1.0') => `${team().registry.host}/team/app:${tag}`;

describe('images', () => {
  test('are pulled, listed and looked at, with what their registry says of them', async () => {
    const store = imageStore();
    const { stdout, stderr } = await store.tsv(['image', 'pull', app()]);
    expect(stderr).toContain(`image ${app()}`);
    expect(stdout.trimEnd().split('\n').at(-1)).toMatch(/is here: sha256:[0-9a-f]{64}, 3\.0 MB in 2 layers/);
    expect(await store.ok(['image', 'pull', app()])).toContain('is up to date');
    expect(await store.ok(['image', 'pull', '-q', app()])).toBe(`${app()}\n`);
    const details = await inspect(store, app());
    expect(details).toMatchObject({
      names: [app()],
      platform: 'linux/amd64',
      config: { cmd: ['/bin/app'], env: ['COLOUR=blue'], labels: { a: 'b' } },
    });
    const manifest = team().registry.rawManifest('team/app:1.0');
    expect(details.layers.map(({ digest }) => digest)).toEqual(
      (JSON.parse(manifest.toString()) as { layers: { digest: string }[] }).layers.map(({ digest }) => digest),
    );
    const table = await store.ok('image list');
    expect(table).toMatch(/^REFERENCE +DIGEST +CREATED +SIZE\n/);
    expect(table).toContain(details.digest.slice(7, 19));
    expect(await store.ok('image ls -q')).toBe(`${details.digest.slice(7, 19)}\n`);
    expect(await store.ok(['image', 'history', app()])).toMatch(/umoci insert +3\.0 MB/);
    expect((await store.ok(['image', 'tags', app()])).split('\n').sort()).toEqual(['', '1.0', '1.1']);
    expect(await store.ok('store verify -q')).toBe('');
  });

  test('that share layers store them once', async () => {
    const store = imageStore();
    await store.ok(['image', 'pull', app()]);
    const before = { blobs: blobs(store).length, layers: layers(store).length };
    await store.ok(['image', 'pull', app('1.1'), `${team().registry.host}/team/two`]);
    // 1.1 is the same; two has a layer, a config and a manifest of its own.
    expect({ blobs: blobs(store).length, layers: layers(store).length }).toEqual({
      blobs: before.blobs + 3,
      layers: before.layers + 1,
    });
    expect(await store.names()).toEqual([app(), app('1.1'), `${team().registry.host}/team/two:latest`]);
  });

  test('keep their content until the last of their names goes', async () => {
    const store = imageStore();
    await store.ok(['image', 'pull', app(), `${team().registry.host}/team/two`]);
    await store.ok(['image', 'tag', app(), 'mine:1']);
    const { digest, names } = await inspect(store, 'mine:1');
    expect([...names].sort()).toEqual([app(), 'mine:1'].sort());
    expect(await store.ok(['image', 'rm', app()])).toBe(`Untagged: ${app()}\n`);
    await store.ok('store verify');
    expect(await store.fails(['image', 'rm', 'mina:1'], 'TSV_IMAGE_UNKNOWN')).toContain('mine:1');
    expect(await store.ok(['image', 'rm', digest.slice(7, 19)])).toContain(`Deleted: ${digest}`);
    expect(await store.names()).toEqual([`${team().registry.host}/team/two:latest`]);
    await store.ok('store verify');
    // What it shared is still there.
    expect((await inspect(store, `${team().registry.host}/team/two`)).layers).toHaveLength(3);
    await store.ok(['image', 'rm', `${team().registry.host}/team/two`]);
    expect(blobs(store)).toEqual([]);
    expect(layers(store)).toEqual([]);
  });

  test.each(['oci-archive', 'docker-archive', 'oci-dir'])(
    'go out as %s and come back, from a file and through a pipe',
    async (format) => {
      const store = imageStore();
      await store.ok(['image', 'pull', app()]);
      await store.ok(['image', 'tag', app(), 'mine:1']);
      await store.ok(['image', 'save', '--format', format, '-o', 'out', app(), 'mine:1']);
      const before = await inspect(store, 'mine:1');
      await store.ok(['image', 'rm', app(), 'mine:1']);
      const loaded = await store.ok('image load -i out');
      expect(loaded.trimEnd().split('\n').sort()).toEqual([`Loaded image: ${app()}`, 'Loaded image: mine:1']);
      const after = await inspect(store, 'mine:1');
      expect(after.config).toEqual(before.config);
      expect(after.layers.map(({ digest }) => digest)).toEqual(before.layers.map(({ digest }) => digest));
      await store.ok('store verify');
      expect(store.leftovers()).toEqual([]);
      if (format === 'oci-dir') return;
      await store.ok(['image', 'rm', '-f', after.digest.slice(7, 19)]);
      const piped = `gzip < out | ${[process.execPath, tsvProgram, 'image', 'load'].map(quote).join(' ')}`;
      const result = await start(store.dir, ['sh', '-c', piped], { env: store.env, input: '' }).result;
      expect(result, result.stderr).toMatchObject({ code: 0, stdout: loaded });
      await store.ok('store verify');
    },
  );

  test('are pushed to another repository, and pulled from there', async () => {
    const store = imageStore();
    await store.ok(['image', 'pull', app()]);
    const target = `${team().registry.host}/other/copy:2.0`;
    const { digest } = await inspect(store, app());
    expect(await store.ok(['image', 'push', app(), target])).toContain(`${target} is at its registry: ${digest}`);
    const other = imageStore();
    await other.ok(['image', 'pull', target]);
    expect((await inspect(other, target)).digest).toBe(digest);
    await other.ok(['image', 'pull', `${team().registry.host}/other/copy@${digest}`]);
    expect(team().registry.rawManifest('other/copy:2.0')).toEqual(team().registry.rawManifest('team/app:1.0'));
  });

  test('that get names at the same time get them all', async (context) => {
    const probe = await start('/', ['strace', '-f', '-o', '/dev/null', 'true'], { input: '' }).result;
    if (probe.code !== 0) context.skip('strace does not work here');
    const store = imageStore();
    await store.ok(['image', 'pull', app()]);
    // The first one is slow between reading the names and writing them.
    const slow = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'inject=rename:delay_enter=1500000'];
    const tag = [process.execPath, tsvProgram, 'image', 'tag', app(), 'slow:1'];
    const first = start(store.dir, [...slow, ...tag], { env: store.env, input: '' });
    await until('the new names are written', () => existsSync(join(store.store, 'images', '.index.json.tmp')));
    await store.ok(['image', 'tag', app(), 'fast:1']);
    expect((await first.result).code).toBe(0);
    expect(await store.names()).toEqual([app(), 'fast:1', 'slow:1']);
  });

  test('with bad names are refused with one error that says what is wrong', async () => {
    const store = imageStore();
    expect(await store.fails(['image', 'pull', app('9.9')], 'TSV_IMAGE_UNKNOWN')).toContain('1.0');
    expect(
      await store.fails(['image', 'pull', `${team().registry.host}/nobody/nothing`], 'TSV_IMAGE_UNKNOWN'),
    ).toContain('nobody/nothing');
    expect(await store.fails(['image', 'pull', `${team().registry.host}/Team/app`], 'TSV_IMAGE')).toContain(
      'lower case',
    );
    await store.fails(['image', 'pull', `${team().registry.host}/team/app@sha256:../../x`], 'TSV_IMAGE');
    expect(await store.fails(['image', 'pull', '--platform', 'linux/s390x', app()], 'TSV_IMAGE_UNKNOWN')).toContain(
      'linux/amd64',
    );
    await store.fails(['image', 'pull', '--platform', 'a/b/c/d', app()], 'TSV_USAGE');
    for (const command of ['inspect', 'history', 'remove', 'save', 'push'])
      await store.fails(['image', command, 'nothing'], 'TSV_IMAGE_UNKNOWN', { input: '' });
    await store.fails(['image', 'tag', 'nothing', 'name'], 'TSV_IMAGE_UNKNOWN');
    await store.fails('image load -i missing.tar', 'TSV_USAGE');
    writeFileSync(join(store.dir, 'text'), 'hello, I am no archive\n');
    await store.fails('image load -i text', 'TSV_IMAGE');
    expect(await store.names()).toEqual([]);
  });
});

describe('a registry that asks who it is', () => {
  test('is logged in to with a password from a pipe or a terminal, and out of again', async () => {
    const closed = await testRegistry({ users: { ann: 'her password' } });
    closed.push(team().layout, 'private/app:1');
    const name = `${closed.host}/private/app:1`;
    const store = imageStore();
    const login = ['image', 'login', '-u', 'ann', '--password-stdin', closed.host];
    await store.fails(['image', 'pull', name], 'TSV_REGISTRY_LOGIN');
    await store.fails(login, 'TSV_REGISTRY_LOGIN', { input: 'a wrong one\n' });
    await store.fails(['image', 'login', closed.host], 'TSV_USAGE', { input: '' });
    expect(await store.ok(login, { input: 'her password\n' })).toContain(`logged in to ${closed.host}`);
    await store.ok(['image', 'pull', name]);
    await store.ok(['image', 'push', name, `${closed.host}/private/copy:1`]);
    expect(await store.ok(['image', 'tags', `${closed.host}/private/copy`])).toBe('1\n');
    expect(await store.ok(['image', 'logout', closed.host])).toContain('logged out');
    await store.fails(['image', 'pull', `${closed.host}/private/copy:1`], 'TSV_REGISTRY_LOGIN');

    const asked = startTsvOnTerminal(store.dir, ['image', 'login', closed.host], { env: store.env });
    await asked.prints(/User: /);
    asked.write('ann\r');
    await asked.prints(/Password of ann/);
    asked.write('her password\r');
    const { code, stdout } = await asked.result;
    expect(code, stdout).toBe(0);
    expect(stdout).not.toContain('her password');
    await store.ok(['image', 'pull', `${closed.host}/private/copy:1`]);
  });
});
