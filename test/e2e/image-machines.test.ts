// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of the Tsfile
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseLock } from '../../src/lockfile/format.ts';
import { removeTree } from '../../src/store/box/index.ts';
import { readUserMap } from '../../src/sys/userns.ts';
import { get } from '../support/cli.ts';
import { fixture, freePort, sharedFixture } from '../support/fixture.ts';
import { busyboxImage, imageRecipes, type TestImage, testImage } from '../support/images.ts';
import { makeLayout, TestRegistry } from '../support/registry.ts';
import { until } from '../support/until.ts';

/** As people write it: three servers of other people's images, and what they need. */
const stack = `
version: 1
project: stack
defaults: { memory: 256M }
machines:
  web:
    image: \${REGISTRY}/nginx:1
    forwards: ["\${PORT}:80"]
    depends_on: { db: healthy, cache: started }
  cache:
    image: \${REGISTRY}/redis:1
  db:
    image: \${REGISTRY}/postgres:1
    env: { POSTGRES_PASSWORD: secret, POSTGRES_DB: shop }
`;
const cacheOnly = `
version: 1
project: cache
machines:
  cache:
    image: \${REGISTRY}/\${NAME}
    memory: 64M
`;

let registry: TestRegistry;
const stores: string[] = [];
/** A store of its own: nothing of these images stays in the user's. */
const newStore = (): string => {
  const store = realpathSync(mkdtempSync(join(tmpdir(), 'tsv-store-')));
  stores.push(store);
  return store;
};
const shared = { store: '' };

beforeAll(async () => {
  registry = await TestRegistry.start();
  shared.store = newStore();
  for (const name of Object.keys(imageRecipes) as TestImage[]) registry.push(await testImage(name), `${name}:1`);
}, 900_000);
afterAll(async () => {
  await registry?.close();
  for (const store of stores) await removeTree(store, readUserMap());
}, 120_000);

const environment = (more: Readonly<Record<string, string>> = {}) => ({
  REGISTRY: registry.host,
  TSV_STORE: shared.store,
  ...more,
});

/** Real uid of a machine's process 1. */
const uidOf = (status: string): string | undefined => /^Uid:\t(\d+)/m.exec(status)?.[1];

describe('a project of images', () => {
  let port = 0;
  const project = sharedFixture(
    'a project of images',
    { 'Tsfile.yaml': stack },
    {
      env: async () => {
        port = await freePort();
        return environment({ PORT: String(port) });
      },
      prepare: (made) => made.ok('up', { timeoutMs: 280_000 }),
    },
  );

  test('comes up and answers: HTTP through a forward, Redis, SQL', async () => {
    expect(await project().states()).toEqual({ web: 'running', cache: 'running', db: 'running' });
    expect(await get(port)).toContain('from the image');
    expect((await project().ok('exec cache -- redis-cli ping')).stdout).toBe('PONG\n');
    const query = ['exec', '-u', 'postgres', 'db', '--', 'psql', '-tA', '-c', 'select 6 * 7', 'shop'];
    expect((await project().ok(query)).stdout).toBe('42\n');
  });

  test('its machines reach each other by name, with passwords where they are asked for', async () => {
    const ask = 'exec 3<>/dev/tcp/cache/6379; printf "PING\\r\\n" >&3; head -n1 <&3';
    expect((await project().ok(['exec', 'db', '--', 'bash', '-c', ask])).stdout).toBe('+PONG\r\n');
    const sql = [
      'exec',
      '-e',
      'PGPASSWORD=wrong',
      'db',
      '--',
      'psql',
      '-h',
      'db',
      '-U',
      'postgres',
      '-c',
      'select 1',
      'shop',
    ];
    expect((await project().tsv(sql)).code).not.toBe(0);
    expect((await project().ok(sql.map((word) => word.replace('wrong', 'secret')))).code).toBe(0);
  });

  test('its servers have dropped root, by their own entrypoints', async () => {
    const status = async (name: string) => (await project().ok(['exec', name, '--', 'cat', '/proc/1/status'])).stdout;
    const idOf = async (name: string, user: string) =>
      (await project().ok(['exec', name, '--', 'id', '-u', user])).stdout.trim();
    expect(uidOf(await status('cache'))).toBe(await idOf('cache', 'redis'));
    expect(uidOf(await status('db'))).toBe(await idOf('db', 'postgres'));
    const workers = await project().ok(['exec', 'web', '--', 'sh', '-c', 'ps -C nginx -o user= | sort | uniq']);
    expect(workers.stdout).toBe('root\nwww-data\n');
  });

  test('what they print is in the logs, also by files that are links to /dev/stdout and /dev/stderr', async () => {
    await project().ok('exec web -- mkdir /var/www/html/empty');
    await get(`${port}/empty`);
    await until('the request is logged', async () => (await project().ok('logs web')).stdout.includes('GET /empty/'));
    const { stdout } = await project().ok('logs web');
    expect(stdout).toContain('configuration complete; ready for start up');
    expect(stdout).toContain('is forbidden'); // of nginx's error.log
  });

  test('status tells the image, port what it listens on', async () => {
    const { machines } = JSON.parse((await project().ok('status --json')).stdout) as {
      machines: {
        machine: string;
        image: { reference: string; digest: string; exposedPorts: string[]; labels: object };
      }[];
    };
    expect(machines.find(({ machine }) => machine === 'web')?.image).toMatchObject({
      reference: `${registry.host}/nginx:1`,
      digest: expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
      exposedPorts: ['80/tcp'],
      labels: { maintainer: 'tests' },
    });
    expect((await project().ok('port db')).stderr).toContain('5432/tcp');
    expect((await project().ok('port web')).stderr).toBe('');
  });

  test('a second up has nothing to do, and asks no registry', async () => {
    const before = project().state();
    const { stderr } = await project().ok('up', { env: { REGISTRY: registry.host } });
    expect(stderr).toContain('Everything is as the Tsfile says');
    expect(project().state()).toEqual(before);
    expect((await project().ok('up --locked')).stderr).toContain('Everything is as the Tsfile says');
  });

  test('its data is kept over a reload, and each server is stopped by the signal of its image', async () => {
    await project().ok('exec cache -- redis-cli set colour blue');
    const sql = (text: string) => ['exec', '-u', 'postgres', 'db', '--', 'psql', '-qtA', '-c', text, 'shop'];
    await project().ok(sql("create table colours (name text); insert into colours values ('green')"));
    await project().ok('reload cache db', { timeoutMs: 150_000 });
    expect((await project().ok('exec cache -- redis-cli get colour')).stdout).toBe('blue\n');
    await until('the database answers', async () => (await project().tsv(sql('select 1'))).code === 0);
    expect((await project().ok(sql('select name from colours'))).stdout).toBe('green\n');
    expect((await project().ok('logs db')).stdout).toContain('received fast shutdown request'); // SIGINT; SIGTERM waits
    expect((await project().ok('logs cache')).stdout).toMatch(/Received SIGTERM/);
    await project().ok('halt web');
    expect((await project().ok('up web')).code).toBe(0);
  });

  test('its lock file has every image, a fact in a line, and nothing of the host', async () => {
    const text = readFileSync(join(project().dir, 'Tsfile.lock'), 'utf8');
    const lock = parseLock(text, 'Tsfile.lock');
    expect(Object.keys(lock.images)).toEqual(
      ['nginx', 'postgres', 'redis'].map((name) => `${registry.host}/${name}:1`),
    );
    expect(lock.images[`${registry.host}/nginx:1`]).toMatchObject({
      version: '1.22',
      source: registry.host,
      size: expect.any(Number),
    });
    expect(lock.images[`${registry.host}/nginx:1`]?.digest).toBe(project().state()?.machines.web?.boxDigest);
    expect(text).not.toContain(shared.store);
  });
});

describe('an image with little in it', () => {
  const little = (shell: boolean, name: string) => {
    const dir = mkdtempSync(join(tmpdir(), 'tsv-little-'));
    try {
      registry.push(busyboxImage(dir, shell), name);
    } finally {
      rmSync(dir, { recursive: true });
    }
    return fixture(
      {
        'Tsfile.yaml': `version: 1\nmachines:\n  small:\n    image: "\${REGISTRY}/${name}"\n    memory: 32M\n    stop_signal: KILL\n    provision:\n      - { name: greet, run: never, shell: { inline: "echo greeted" } }\n`,
      },
      environment(),
    );
  };

  test('is entered by busybox where passwd names a shell that is not there', async () => {
    const project = little(true, 'busybox:1');
    await project.ok('up');
    expect((await project.ok(['ssh', 'small', '-c', 'echo $HOME; id -u'])).stdout).toBe('/root\n0\n');
    expect((await project.ok('provision --only greet')).stderr).toContain('greeted');
    const config = (await project.ok('ssh-config small')).stdout;
    writeFileSync(join(project.dir, 'ssh'), config);
    expect((await project.run(['ssh', '-F', 'ssh', 'small', 'echo by ssh'])).stdout).toBe('by ssh\n');
  });

  test('says why nobody can log in where there is no shell, and what can be done', async () => {
    const project = little(false, 'bare:1');
    await project.ok('up');
    const ssh = await project.tsv('ssh small');
    expect(ssh.code).toBe(127);
    expect(ssh.stderr).toMatch(/small has no shell[\s\S]*tsv exec small -- PROGRAM/);
    expect((await project.ok('exec small -- /bin/busybox echo works')).stdout).toBe('works\n');
    const step = await project.tsv('provision --only greet');
    expect(step.code).toBe(1);
    expect(step.stderr).toContain("step 'greet'");
    writeFileSync(join(project.dir, 'ssh'), (await project.ok('ssh-config small')).stdout);
    const login = await project.run(['ssh', '-F', 'ssh', 'small', 'true']);
    expect(login.code).toBe(127);
    expect(login.stderr).toContain('it has no shell; tsv exec runs its programs without one');
  });

  test('comes back from the registry when somebody has emptied the store', async () => {
    const project = little(true, 'again:1');
    const env = { TSV_STORE: newStore() };
    await project.ok('up', { env });
    await project.ok('halt', { env });
    await removeTree(env.TSV_STORE, readUserMap());
    await project.ok('up', { env });
    expect((await project.ok('exec small -- /bin/busybox echo back', { env })).stdout).toBe('back\n');
    await project.ok('destroy --force', { env });
  });
});

describe('Tsfile.lock', () => {
  /** An image of nothing but one file, under a name that was another's. */
  const moveTag = (name: string): void => {
    const dir = mkdtempSync(join(tmpdir(), 'tsv-moved-'));
    try {
      registry.push(makeLayout(dir, 'moved', [{ '/moved': 'yes' }], ['--architecture', 'amd64']), name);
    } finally {
      rmSync(dir, { recursive: true });
    }
  };

  test('is obeyed after the tag has moved; --check tells, update takes what is new, and volumes stay', async () => {
    registry.push(await testImage('redis'), 'moving:1');
    const project = fixture({ 'Tsfile.yaml': cacheOnly }, environment({ NAME: 'moving:1' }));
    await project.ok('up');
    const before = readFileSync(join(project.dir, 'Tsfile.lock'), 'utf8');
    moveTag('moving:1');
    expect((await project.ok('up')).stderr).toContain('Everything is as the Tsfile says');
    await project.ok('destroy --force');
    // A store that has neither: it comes from the registry, by its digest.
    const other = { TSV_STORE: newStore() };
    await project.ok('up --locked', { env: other });
    expect((await project.ok('exec cache -- redis-cli ping', { env: other })).stdout).toBe('PONG\n');
    expect(readFileSync(join(project.dir, 'Tsfile.lock'), 'utf8')).toBe(before);

    const check = await project.tsv('lock --check', { env: other });
    expect(check).toMatchObject({
      code: 2,
      stdout: `${registry.host}/moving:1 is another image now; tsv update takes it\n`,
    });
    expect(readFileSync(join(project.dir, 'Tsfile.lock'), 'utf8')).toBe(before);
    await project.ok('exec cache -- redis-cli set colour blue', { env: other });
    await project.ok('exec cache -- redis-cli save', { env: other });
    expect((await project.ok('update', { env: other })).stdout).toMatch(
      /moving:1: sha256:[0-9a-f]{12}… -> sha256:[0-9a-f]{12}…\n/,
    );
    const plan = await project.tsv('plan', { env: other });
    expect(plan.code).toBe(2);
    expect(plan.stdout).toContain('image updated');
    await project.ok('up --locked', { env: other });
    const moved = project.state()?.machines.cache;
    expect(moved?.boxDigest).not.toBe(parseLock(before, '').images[`${registry.host}/moving:1`]?.digest);
    const volumes = join(project.dir, '.ts-vm/machines/cache/volumes/data');
    expect(existsSync(volumes)).toBe(true);
    expect((await project.ok('lock --check', { env: other })).stdout).toContain('as it should be');
    await project.ok('destroy --force', { env: other });
  });

  test('is written by lock without a machine, and --locked fails where it would change', async () => {
    registry.push(await testImage('redis'), 'locked:1');
    const project = fixture({ 'Tsfile.yaml': cacheOnly }, environment({ NAME: 'locked:1' }));
    const lockFile = join(project.dir, 'Tsfile.lock');
    const refused = await project.tsv('up --locked');
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain('TSV_LOCK_FILE');
    expect(refused.stderr).toContain(`${registry.host}/locked:1: not in it`);
    expect(existsSync(lockFile)).toBe(false);
    for (const looking of ['validate', 'plan', 'status']) await project.tsv(looking);
    expect(existsSync(lockFile)).toBe(false);
    await project.ok('lock');
    expect(existsSync(join(project.dir, '.ts-vm'))).toBe(false);
    const locked = readFileSync(lockFile, 'utf8');
    await project.ok('up --locked');
    expect(readFileSync(lockFile, 'utf8')).toBe(locked);
    // Another machine, and one that is gone.
    registry.push(await testImage('redis'), 'other:1');
    project.edit((text) => text.replace('${REGISTRY}/${NAME}', '${REGISTRY}/other:1'));
    expect((await project.tsv('up --locked')).stderr).toContain('no longer used');
    await project.ok('up');
    expect(Object.keys(parseLock(readFileSync(lockFile, 'utf8'), '').images)).toEqual([`${registry.host}/other:1`]);
  });

  test('has the recipes of boxes, and is not written again where nothing is new', async () => {
    const project = fixture({ 'Tsfile.yaml': 'version: 1\nmachines:\n  a: { image: debian-12, memory: 64M }\n' });
    const lockFile = join(project.dir, 'Tsfile.lock');
    await project.ok('up');
    const { ino, mtimeMs } = statSync(lockFile);
    expect(parseLock(readFileSync(lockFile, 'utf8'), '').boxes['debian-12']).toMatchObject({ source: 'recipe' });
    for (const command of ['up', 'reload', 'lock', 'update', 'up --locked']) await project.ok(command);
    expect(statSync(lockFile)).toMatchObject({ ino, mtimeMs });
  });

  test('that is malformed, merged badly or a link is one clear error, and stays as it is', async () => {
    const project = fixture({ 'Tsfile.yaml': cacheOnly }, environment({ NAME: 'redis:1' }));
    const lockFile = join(project.dir, 'Tsfile.lock');
    const conflict = 'version: 1\nimages:\n<<<<<<< ours\n  "a":\n=======\n  "b":\n>>>>>>> theirs\n';
    writeFileSync(lockFile, conflict);
    for (const command of ['up', 'plan', 'lock', 'update']) {
      const { code, stderr } = await project.tsv(command);
      expect(code).toBe(1);
      expect(stderr).toContain('Tsfile.lock:3: two versions of it were merged');
    }
    expect(readFileSync(lockFile, 'utf8')).toBe(conflict);
    rmSync(lockFile);
    writeFileSync(join(project.dir, 'elsewhere'), 'mine');
    symlinkSync('elsewhere', lockFile);
    expect((await project.tsv('up')).stderr).toContain('it is a symbolic link');
    expect(readFileSync(join(project.dir, 'elsewhere'), 'utf8')).toBe('mine');
    rmSync(lockFile);
  });
});
