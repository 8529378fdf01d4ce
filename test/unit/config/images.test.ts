import { describe, expect, test } from 'vitest';
import { boxMeantBy } from '../../../src/config/index.ts';
import { isolationOf } from '../../../src/model/project.ts';
import { headlines, load, machine, machines, mistakes } from './support.ts';

const one = async (body: string) => machine(await load(machines(`  a: { ${body} }\n`)), 'a');

describe('image', () => {
  test.each([
    ['nginx', 'docker.io/library/nginx:latest'],
    ['nginx:1.27', 'docker.io/library/nginx:1.27'],
    ['ghcr.io/team/app:2', 'ghcr.io/team/app:2'],
    ['localhost:5000/x', 'localhost:5000/x:latest'],
    [`ghcr.io/x/y@sha256:${'a'.repeat(64)}`, `ghcr.io/x/y@sha256:${'a'.repeat(64)}`],
    ['debian-12:latest', 'docker.io/library/debian-12:latest'],
  ])('%s is the image %s', async (written, reference) => {
    expect(await one(`image: "${written}"`)).toMatchObject({ kind: 'container', box: reference, image: {} });
  });

  test('with the name of a box is that box', async () => {
    const made = await one('image: debian-12');
    expect(made.box).toBe('debian-12');
    expect('image' in made).toBe(false);
  });

  test('that is no reference is a mistake with its place, and a hint', async () => {
    const [first] = await mistakes(machines('  a: { image: "Nginx:1.27" }\n'));
    expect(first?.split('\n')).toEqual([
      expect.stringMatching(
        /^Tsfile\.yaml:3:15: "Nginx:1\.27" is no image reference: the name of a repository is in lower case/,
      ),
      expect.stringContaining('image: "Nginx:1.27"'),
      expect.stringMatching(/^ {18}\^~+$/),
      expect.stringContaining('did you mean nginx:1.27?'),
    ]);
    expect(
      await headlines(machines('  a: { image: "https://nginx" }\n  b: { image: "x:" }\n  c: { image: "" }\n')),
    ).toHaveLength(3);
  });

  test('of which a box was meant names the box', async () => {
    const [first] = await mistakes(machines('  a: { image: "Debian-12" }\n'));
    expect(first).toContain('did you mean `debian-12`?');
    const boxes = ['debian-12'];
    expect(boxMeantBy('docker.io/library/debain-12:latest', boxes)).toBe('debian-12');
    for (const other of [
      'docker.io/library/debain-12:1',
      'docker.io/me/debain-12:latest',
      'ghcr.io/debain-12:latest',
      'docker.io/library/nginx:latest',
    ])
      expect(boxMeantBy(other, boxes)).toBeUndefined();
  });

  test('leaves open what the image may say, and a box nothing', async () => {
    const { user, stopSignal, workdir, init } = isolationOf(await one('image: nginx'));
    expect({ user, stopSignal, workdir, init }).toEqual({ init: false });
    const said = 'image: nginx, user: 7, stop_signal: QUIT, workdir: /srv, init: true';
    expect(isolationOf(await one(said))).toMatchObject({
      user: { user: 7 },
      stopSignal: 3,
      workdir: '/srv',
      init: true,
    });
    expect(isolationOf(await one('image: debian-12'))).toMatchObject({
      user: { user: 0 },
      stopSignal: 15,
      workdir: '/',
      init: true,
    });
    expect(isolationOf(await one('image: nginx, init: false')).init).toBe(false);
  });

  test('can be waited for until it is healthy: its own check shows when it is there', async () => {
    const project = await load(
      machines('  db: { image: postgres }\n  web: { image: nginx, depends_on: { db: healthy } }\n'),
    );
    expect(machine(project, 'web').dependsOn).toEqual([{ machine: 'db', condition: 'healthy' }]);
    expect(
      await headlines(machines('  db: { image: d }\n  web: { image: nginx, depends_on: { db: healthy } }\n')),
    ).toEqual([expect.stringContaining('cannot become healthy')]);
  });
});

describe('entrypoint', () => {
  test('is a list, a text for the shell, or an empty list', async () => {
    expect((await one('image: nginx, entrypoint: [a, b], command: [c]')).entrypoint).toEqual(['a', 'b']);
    expect((await one('image: nginx, entrypoint: "a b"')).entrypoint).toEqual(['/bin/sh', '-c', 'a b']);
    expect((await one('image: nginx, entrypoint: []')).entrypoint).toEqual([]);
    expect('entrypoint' in (await one('image: nginx'))).toBe(false);
  });

  test('of a box is a command as any other: there is no init by itself', async () => {
    expect(isolationOf(await one('image: d, entrypoint: [sleep, 1]')).init).toBe(false);
    expect(isolationOf(await one('image: d, entrypoint: []')).init).toBe(true);
  });

  test('is not for VMs', async () => {
    expect(await headlines(machines('  a: { box: d, entrypoint: [x] }\n'))).toEqual([
      expect.stringContaining('`entrypoint` is for containers'),
    ]);
  });
});
