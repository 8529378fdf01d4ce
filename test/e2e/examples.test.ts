import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { get } from '../support/cli.ts';
import { fixture, freePort } from '../support/fixture.ts';
import { boxStore } from '../support/image-store.ts';

const minutes = 60_000;

describe('the examples do what their READMEs say', () => {
  test('load-balancer: all four servers answer in turn, the others go on when one is gone, and made anew they are provisioned already', {
    timeout: 8 * minutes,
  }, async () => {
    const port = String(await freePort());
    const project = fixture('example:load-balancer', { ...boxStore().env, PORT: port });
    await project.ok('up', { timeoutMs: 6 * minutes });
    const ask = async () => (await get(port)).trim();
    const turns = async () => {
      const answers = [];
      for (let i = 0; i < 8; i++) answers.push(await ask());
      return answers;
    };
    const answers = await turns();
    expect(new Set(answers)).toEqual(new Set(['web-1', 'web-2', 'web-3', 'vm']));
    expect(answers.slice(0, 4)).toEqual(answers.slice(4));

    await project.ok('exec web-2 -- pkill nginx');
    expect(new Set(await turns())).toEqual(new Set(['web-1', 'web-3', 'vm']));
    await project.ok('up', { timeoutMs: 2 * minutes });
    expect(await project.states()).toEqual({
      'web-1': 'running',
      'web-2': 'running',
      'web-3': 'running',
      vm: 'running',
      lb: 'running',
    });

    await project.ok('destroy -f');
    const { stderr } = await project.ok('up', { timeoutMs: 2 * minutes });
    expect(stderr.match(/^\S+ +\S+ cached$/gm)).toHaveLength(5);
    expect(new Set(await turns())).toEqual(new Set(['web-1', 'web-2', 'web-3', 'vm']));
  });

  test('single-vm: the page lies on a disk that outlives a halt, and a changed page is copied again', {
    timeout: 8 * minutes,
  }, async () => {
    const port = String(await freePort());
    const project = fixture('example:single-vm', { PORT: port });
    await project.ok('up', { timeoutMs: 6 * minutes });
    const page = () => get(port);
    expect(await page()).toContain('on a disk of its own');
    expect((await project.ok('exec web -- findmnt -no SOURCE /srv/data')).stdout).toMatch(/^\/dev\/vd/);
    writeFileSync(join(project.dir, 'index.html'), 'another page\n');
    const { stderr } = await project.ok('up');
    expect(stderr).not.toMatch(/provisioned nginx/);
    expect(await page()).toBe('another page\n');
    await project.ok('halt', { timeoutMs: 2 * minutes });
    await project.ok('up', { timeoutMs: 3 * minutes });
    expect(await page()).toBe('another page\n');
  });

  test('dev-env: a program in the shared folder uses the database in the virtual machine, which survives suspend and resume', {
    timeout: 8 * minutes,
  }, async () => {
    const project = fixture('example:dev-env', { DATABASE_PASSWORD: 'it"s a secret' });
    await project.ok('up', { timeoutMs: 6 * minutes });
    expect((await project.ok('exec dev -- /srv/src/count.sh')).stdout).toBe('1\n');
    project.write('src/hello.sh', 'echo "hello from $(hostname)"\n');
    expect((await project.ok('exec dev -- sh /srv/src/hello.sh')).stdout).toBe('hello from dev\n');
    expect((await project.ok(['exec', '-e', 'REDISCLI_AUTH=wrong', 'dev', '--', '/srv/src/count.sh'])).stdout).toMatch(
      /WRONGPASS|NOAUTH/,
    );
    expect((await project.ok('exec dev -- /srv/src/count.sh')).stdout).toBe('2\n');

    const server = async () => (await project.ok('exec db -- pidof redis-server')).stdout;
    const before = await server();
    await project.ok('suspend', { timeoutMs: 2 * minutes });
    await project.ok('resume', { timeoutMs: 2 * minutes });
    expect(await server()).toBe(before);
    expect((await project.ok('exec dev -- /srv/src/count.sh')).stdout).toBe('3\n');
  });
});
