import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loopOf } from '../../src/sys/loop.ts';
import { fixture } from '../support/fixture.ts';
import { isRoot } from '../support/root.ts';
import { until } from '../support/until.ts';

const tsfile = (size: string) => `
version: 1
defaults: { memory: 64M }
networks: { default: { mode: isolated } }
machines:
  db:
    image: debian-12
    disks:
      - { name: data, size: ${size}, mount: /var/lib/data, keep: true }
      - { name: cache, size: 8M, mount: /var/cache/big }
`;

test("a container's disks: written, grown, kept by reload, halt and a killed agent; destroy says what it leaves", async (context) => {
  if (!isRoot) return context.skip('disks of containers need root');
  const project = fixture({ 'Tsfile.yaml': tsfile('16M') });
  const kept = join(project.dir, '.ts-vm/disks/db/data.img');
  const own = join(project.dir, '.ts-vm/machines/db/disks/cache.img');
  const sh = async (line: string) => (await project.ok(['exec', 'db', '--', 'sh', '-c', line])).stdout;

  await project.ok('up');
  await sh('echo data >/var/lib/data/file; echo cache >/var/cache/big/file');
  await project.ok('reload');
  expect(await sh('cat /var/lib/data/file /var/cache/big/file')).toBe('data\ncache\n');

  project.write('Tsfile.yaml', tsfile('64M'));
  const plan = await project.tsv('plan');
  expect(plan.code).toBe(2);
  expect(plan.stdout).toMatch(/^~ db .*disk data grows to 64M$/m);
  await project.ok('up');
  expect(Number(await sh('df --output=size -m /var/lib/data | tail -1'))).toBeGreaterThan(48);
  expect((await project.ok('status')).stdout).toMatch(/ {2}data 64M, cache 8M$/m);
  expect(JSON.parse((await project.ok('inspect db --format .disks')).stdout)).toEqual([
    {
      name: 'data',
      sizeBytes: 64 << 20,
      mount: '/var/lib/data',
      keep: true,
      file: kept,
      usedBytes: expect.any(Number),
    },
    { name: 'cache', sizeBytes: 8 << 20, mount: '/var/cache/big', file: own, usedBytes: expect.any(Number) },
  ]);

  project.write('Tsfile.yaml', tsfile('32M'));
  const smaller = await project.tsv('up');
  expect(smaller.code).toBe(1);
  expect(smaller.stderr).toMatch(/disk cannot become smaller[\s\S]*db: disk data has 64M, and the Tsfile says 32M/);
  project.write('Tsfile.yaml', tsfile('64M'));

  process.kill(project.agentPid() ?? 0, 'SIGKILL');
  expect(await sh('cat /var/lib/data/file')).toBe('data\n');
  await project.ok('halt');
  await until('no loop device is left', () => [kept, own].every((file) => loopOf(file) === undefined));
  await project.ok('up');
  const destroyed = await project.ok('destroy -f');
  expect(destroyed.stderr + destroyed.stdout).toContain(`its disk data is kept: ${kept}`);
  await until('only the kept disk is left', () => !existsSync(own) && !existsSync(join(project.dir, '.ts-vm/lock')));
  expect(existsSync(kept)).toBe(true);

  await project.ok('up');
  expect(await sh('cat /var/lib/data/file; ls /var/cache/big')).toBe('data\nlost+found\n');
  await project.ok('destroy -f');
});

test("a container's disks are refused for others than root, with what they can have, before anything is made", async (context) => {
  if (isRoot) return context.skip('root can have them');
  const project = fixture({ 'Tsfile.yaml': tsfile('16M') });
  for (const command of ['plan', 'up']) {
    const refused = await project.tsv(command);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/\[TSV_UNSUPPORTED\]\n {2}db: disks of a container need root: .*`volumes`/);
  }
  expect(existsSync(join(project.dir, '.ts-vm'))).toBe(false);
});
