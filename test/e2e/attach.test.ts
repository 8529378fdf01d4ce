import { appendFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { fixture } from '../support/fixture.ts';
import { until } from '../support/until.ts';

test('tsv attach prints what a container prints from then on, and ends with its exit code', async () => {
  const project = fixture({
    'Tsfile.yaml': `
version: 1
networks: { default: { mode: isolated } }
machines:
  talk:
    image: debian-12
    memory: 64M
    share: [{ host: ./said, guest: /srv/said, readonly: true }]
    command: "echo before; tail -n +1 -f /srv/said/words & until test -s /srv/said/end; do sleep 0.05; done; kill $!; exit 7"
`,
    'said/words': '',
    'said/end': '',
  });
  await project.ok('up');
  const say = (file: string, text: string) => appendFileSync(join(project.dir, 'said', file), text);
  const log = join(project.dir, '.ts-vm', 'machines', 'talk', 'console.log');
  expect(readFileSync(log, 'utf8')).toBe('before\n');
  const attached = project.start('attach talk', { input: 'for nobody\n' });
  const other = project.start('attach talk');
  // What was said before is not for them: said until both are there.
  for (const follower of [attached, other])
    await until('it is attached', () => {
      say('words', 'hello\n');
      return follower.output().stdout.includes('hello\n');
    });
  other.signal('SIGINT');
  expect((await other.result).code).toBe(130);
  say('words', 'bye\x1b[1m!\n');
  await attached.prints(/1m!\n/);
  say('end', 'now');
  const { code, stdout, stderr } = await attached.result;
  expect([code, stderr]).toEqual([7, '']);
  expect(stdout.replaceAll('hello\n', '')).toBe('bye\x1b[1m!\n');

  const gone = await project.tsv('attach talk');
  expect([gone.code, gone.stderr]).toEqual([1, expect.stringMatching(/talk is not running[\s\S]*tsv up talk/)]);
  const wrong = await project.tsv('attach --detach-keys ctrl-1 talk');
  expect(wrong.stderr).toMatch(/keys separated by commas/);
});
