// biome-ignore-all lint/suspicious/noTemplateCurlyInString: Tsfiles have ${VAR}
import { chmodSync, chownSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadProject } from '../../../src/config/index.ts';
import { boxes, failure, fixtures, folder, headlines, load, machine, machines } from './support.ts';

const minimal = machines('  app: { image: debian-12 }\n');

describe('the reference Tsfile', () => {
  const loading = () => loadProject(join(fixtures, 'reference'), { env: {}, boxes });

  test('gives networks and machines in the order of the file, replicas numbered', async () => {
    const project = await loading();
    expect(project.name).toBe('bookshop');
    expect(project.networks).toEqual([
      { name: 'default', mode: 'nat' },
      { name: 'inner', mode: 'isolated', subnet: '10.91.4.0/24' },
    ]);
    expect(project.machines.map(({ name, group, kind }) => `${name} ${group} ${kind}`)).toEqual([
      'front front container',
      'shelf-1 shelf container',
      'shelf-2 shelf container',
      'shelf-3 shelf container',
      'ledger ledger vm',
    ]);
  });

  test('fills in defaults, own values first, and merges env', async () => {
    const project = await loading();
    const front = machine(project, 'front');
    expect(front).toMatchObject({
      memoryBytes: 384 * 2 ** 20,
      cpus: 1,
      pids: 1024,
      bootTimeoutMs: 300_000,
      stopTimeoutMs: 30_000,
      accel: 'auto',
    });
    expect(front.env).toEqual({ TZ: 'Europe/Berlin', REGION: 'us', PORT: '8080', RELEASE: '1.10' });
    expect(machine(project, 'ledger')).toMatchObject({
      memoryBytes: 1.5 * 2 ** 30,
      bootTimeoutMs: 90_000,
      disks: [{ name: 'data', sizeBytes: 2 ** 31 }],
    });
    expect(machine(project, 'shelf-2')).toMatchObject({ cpus: 0.5, hostname: 'shelf-2' });
    expect('command' in front || 'healthcheck' in front).toBe(false);
  });

  test('expands a dependency on a group to its replicas', async () => {
    expect(machine(await loading(), 'front').dependsOn).toEqual([
      { machine: 'shelf-1', condition: 'healthy' },
      { machine: 'shelf-2', condition: 'healthy' },
      { machine: 'shelf-3', condition: 'healthy' },
      { machine: 'ledger', condition: 'started' },
    ]);
  });

  test('reads forwards in both forms, on 127.0.0.1 unless an address is given', async () => {
    expect(machine(await loading(), 'front').forwards).toEqual([
      { hostAddress: '127.0.0.1', hostPort: 8080, guestPort: 80 },
      { hostAddress: '0.0.0.0', hostPort: 9443, guestPort: 443 },
    ]);
  });

  test('makes host paths absolute and names unnamed steps after type and file', async () => {
    const project = await loading();
    const dir = join(fixtures, 'reference');
    expect(machine(project, 'shelf-1').shares).toEqual([
      { host: join(dir, 'site'), guest: '/srv/site', readonly: true },
    ]);
    const steps = machine(project, 'ledger').provision;
    expect(steps.map(({ name, run }) => `${name} ${run}`)).toEqual([
      'file-ledger.cnf once',
      'file-files once',
      'shell-inline always',
      'shell-inline-2 once',
    ]);
    expect(steps[0]).toMatchObject({
      source: join(dir, 'conf/ledger.cnf'),
      destination: '/etc/ledger.cnf',
      mode: 0o640,
      owner: 'mysql:mysql',
    });
    expect(machine(project, 'front').provision[0]).toMatchObject({
      name: 'balancer',
      args: ['shelf-1', 'shelf-2', '3'],
      privileged: true,
    });
  });

  test('is plain JSON', async () => {
    const project = await loading();
    expect(JSON.parse(JSON.stringify(project))).toEqual(project);
  });
});

describe('finding the file', () => {
  test('the nearest Tsfile above the folder is taken', async () => {
    const dir = folder({ 'Tsfile.yaml': minimal });
    mkdirSync(join(dir, 'a/b'), { recursive: true });
    expect(await loadProject(join(dir, 'a/b'), { env: {}, boxes })).toMatchObject({
      dir,
      file: join(dir, 'Tsfile.yaml'),
    });
  });

  test.skipIf(process.getuid?.() !== 0)('a Tsfile above that belongs to a stranger is not used', async () => {
    const dir = folder({ 'Tsfile.yaml': minimal });
    mkdirSync(join(dir, 'a'));
    chownSync(join(dir, 'Tsfile.yaml'), 54321, 54321);
    const error = await failure(loadProject(join(dir, 'a'), { env: {}, boxes }));
    expect(error).toMatchObject({ code: 'TSV_NO_TSFILE', hint: expect.stringContaining(`cd ${dir}`) });
    expect((await loadProject(dir, { env: {}, boxes })).dir).toBe(dir);
  });

  test('Tsfile.yml is taken too, but not beside Tsfile.yaml', async () => {
    const dir = folder({ 'Tsfile.yml': minimal });
    expect((await loadProject(dir, { env: {}, boxes })).file).toBe(join(dir, 'Tsfile.yml'));
    writeFileSync(join(dir, 'Tsfile.yaml'), minimal);
    expect((await failure(loadProject(dir, { env: {}, boxes }))).message).toContain('two Tsfiles');
  });

  test('no Tsfile at all is TSV_NO_TSFILE with the command that writes one', async () => {
    const error = await failure(loadProject(folder(), { env: {}, boxes }));
    expect(error).toMatchObject({ code: 'TSV_NO_TSFILE', hint: expect.stringMatching(/^tsv init/) });
    expect(await failure(loadProject(folder(), { env: {}, boxes, file: 'other.yaml' }))).toMatchObject({
      code: 'TSV_NO_TSFILE',
    });
  });

  test('a folder, a symbolic link, a dangling link and a device are refused with the reason', async () => {
    const dir = folder({ 'real.yaml': minimal });
    mkdirSync(join(dir, 'folder.yaml'));
    symlinkSync('real.yaml', join(dir, 'link.yaml'));
    symlinkSync('nothing', join(dir, 'dangling.yaml'));
    const why = async (file: string) =>
      (await failure(loadProject(dir, { env: {}, boxes, file }))).message.replace(`${dir}/`, '');
    expect(await why('folder.yaml')).toBe('folder.yaml is a folder, not a file');
    expect(await why('link.yaml')).toBe('link.yaml is a symbolic link; tsv reads plain files only');
    expect(await why('dangling.yaml')).toBe('dangling.yaml is a symbolic link; tsv reads plain files only');
    expect(await why('/dev/zero')).toBe('/dev/zero is not a plain file');
  });

  test('a file above 1 MB is refused unread, and one that is no UTF-8 is refused', async () => {
    const dir = folder({ 'Tsfile.yaml': `${minimal}#${'x'.repeat(1 << 20)}` });
    expect((await failure(loadProject(dir, { env: {}, boxes }))).message).toContain('larger than 1048576 bytes');
    writeFileSync(join(dir, 'Tsfile.yaml'), Buffer.from([0x61, 0xff, 0xfe]));
    expect((await failure(loadProject(dir, { env: {}, boxes }))).message).toContain('not UTF-8');
  });

  test('a byte order mark does not move columns', async () => {
    expect(await headlines('\u{feff}versoin: 1\nversion: 1\nmachines: { a: { image: d } }')).toEqual([
      '1:1: unknown key `versoin`',
    ]);
  });
});

describe('names and networks', () => {
  test('without `project`, the folder gives the name, made into a DNS label', async () => {
    const dir = join(folder(), 'Mein Café (2)');
    mkdirSync(dir);
    writeFileSync(join(dir, 'Tsfile.yaml'), minimal);
    expect((await loadProject(dir, { env: {}, boxes })).name).toBe('mein-cafe-2');
  });

  test('the default network is added only when a machine is on it', async () => {
    expect((await load(minimal)).networks).toEqual([{ name: 'default', mode: 'nat' }]);
    const other = machines('  app: { image: d, networks: [lan] }\n', 'networks: { lan: }\n');
    expect((await load(other)).networks).toEqual([{ name: 'lan', mode: 'nat' }]);
  });

  test('one replica is numbered as well', async () => {
    expect((await load(machines('  app: { image: d, replicas: 1 }\n'))).machines.map((m) => m.name)).toEqual(['app-1']);
  });

  test('a command that is a text goes to the shell, a list stays one', async () => {
    const project = await load(
      machines('  a: { image: d, command: "sleep 1; true" }\n  b: { image: d, command: [sleep, 1] }\n'),
    );
    expect(project.machines.map((m) => m.command)).toEqual([
      ['/bin/sh', '-c', 'sleep 1; true'],
      ['sleep', '1'],
    ]);
  });

  test('shell metacharacters in values are data', async () => {
    const evil = '; rm -rf $(HOME) `id` \\ " \' | & > *';
    const project = await load(
      machines(`  a: { image: d, env: { X: ${JSON.stringify(evil)} }, command: [echo, ${JSON.stringify(evil)}] }\n`),
    );
    expect(machine(project, 'a').env).toEqual({ X: evil });
    expect(machine(project, 'a').command).toEqual(['echo', evil]);
  });
});

describe('fingerprints and the digest', () => {
  const shell = machines('  a: { image: d, provision: [{ shell: s.sh, args: [one] }] }\n');
  const fingerprint = async (dir: string) =>
    machine(await loadProject(dir, { env: {}, boxes }), 'a').provision[0]?.fingerprint;

  test('change with the script, its arguments and its mode, not with its place in the file', async () => {
    const dir = folder({ 'Tsfile.yaml': shell, 's.sh': 'echo 1' });
    const first = await fingerprint(dir);
    writeFileSync(join(dir, 'Tsfile.yaml'), `# a comment\n${shell}`);
    expect(await fingerprint(dir)).toBe(first);
    writeFileSync(join(dir, 's.sh'), 'echo 2');
    const second = await fingerprint(dir);
    chmodSync(join(dir, 's.sh'), 0o755);
    const third = await fingerprint(dir);
    writeFileSync(join(dir, 'Tsfile.yaml'), shell.replace('one', 'two'));
    expect(new Set([first, second, third, await fingerprint(dir)]).size).toBe(4);
  });

  test('of a folder change with anything in its tree', async () => {
    const dir = folder({
      'Tsfile.yaml': machines('  a: { image: d, provision: [{ file: { source: f, destination: /f } }] }\n'),
    });
    mkdirSync(join(dir, 'f/deep'), { recursive: true });
    const seen = [await fingerprint(dir)];
    writeFileSync(join(dir, 'f/deep/x'), '1');
    seen.push(await fingerprint(dir));
    writeFileSync(join(dir, 'f/deep/x'), '2');
    seen.push(await fingerprint(dir));
    symlinkSync('deep/x', join(dir, 'f/link'));
    seen.push(await fingerprint(dir));
    expect(new Set(seen).size).toBe(4);
    expect(await fingerprint(dir)).toBe(seen[3]);
  });

  test('the digest changes with the text and with the variables that it uses, not with others', async () => {
    const text = machines('  a: { image: d, env: { X: "${X:-}" } }\n');
    const digest = async (env: Record<string, string>, dotEnv?: string) => (await load(text, env, dotEnv)).digest;
    const first = await digest({});
    expect(await digest({ Y: '1' })).toBe(first);
    expect(await digest({ X: '1' })).not.toBe(first);
    expect(await digest({}, 'X=1')).toBe(await digest({ X: '1' }));
    expect((await load(`${text}#`)).digest).not.toBe(first);
  });
});
