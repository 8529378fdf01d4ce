import { describe, expect, test } from 'vitest';
import { wordsOf } from '../../../src/cli/render/words.ts';
import type { Digest } from '../../../src/model/image.ts';
import type { Machine } from '../../../src/model/project.ts';
import { describeAction } from '../../../src/plan/print.ts';
import { afterUp, container, nothing, printed, project, text, withRecord } from './fixtures.ts';

const nginx = 'docker.io/library/nginx:1.27';
const postgres = 'docker.io/library/postgres:15';
const digest = (letter: string): Digest => `sha256:${letter.repeat(64)}`;
const of = (name: string, image: string, fields: Partial<Machine> = {}): Machine =>
  container(name, { box: image, image: { digest: digest('a') }, ...fields });
const up = (wanted: Parameters<typeof project>[0], observation = nothing) =>
  printed({ command: 'up', wanted: project(wanted), observation });
const running = (machine: Machine, boxDigest = digest('a')) =>
  withRecord(afterUp(project([machine])), machine.name, { boxDigest });

describe('images in a plan', () => {
  test('are got once for all machines of them, beside boxes', () => {
    expect(up([of('a', nginx), of('b', nginx), container('c')])).toBe(text`
      [1]  sandbox.ensure  (new)
      [2] <- 1  network.ensure default  (new)
      [3]  image.ensure docker.io/library/nginx:1.27  (needed by a and 1 more)
      [4]  box.ensure debian-12 container  (needed by c)
      [5] <- 2,3  machine.create a  (new)
      [6] <- 5  machine.start a  (new)
      [7] <- 6  machine.wait a  (started)
      [8] <- 2,3  machine.create b  (new)
      [9] <- 8  machine.start b  (new)
      [10] <- 9  machine.wait b  (started)
      [11] <- 2,4  machine.create c  (new)
      [12] <- 11  machine.start c  (new)
      [13] <- 12  machine.wait c  (started)
    `);
  });

  test('are asked for their health only where a machine waits for it', () => {
    const waiting = up([
      of('db', postgres),
      of('web', nginx, { dependsOn: [{ machine: 'db', condition: 'healthy' }] }),
    ]);
    expect(waiting).toContain('machine.healthy db  (started)');
    expect(waiting).not.toContain('machine.healthy web');
    const not = up([of('db', postgres), of('web', nginx, { dependsOn: [{ machine: 'db', condition: 'started' }] })]);
    expect(not).not.toContain('machine.healthy');
  });

  test('that the lock file has anew make their machines anew, which find their volumes', () => {
    const machine = of('db', postgres);
    expect(up([machine], running(machine))).toBe('nothing to do');
    expect(up([machine], running(machine, digest('b')))).toBe(text`
      [1]  machine.stop db  (image updated)
      [2] <- 1  machine.destroy db (keeps volumes)  (image updated)
      [3]  network.ensure default  (no machine runs on it)
      [4]  image.ensure docker.io/library/postgres:15  (needed by db)
      [5] <- 2,3,4  machine.create db  (image updated)
      [6] <- 5  machine.start db  (image updated)
      [7] <- 6  machine.wait db  (started)
    `);
  });

  test('without an entry in the lock file leave what runs alone', () => {
    const machine = of('db', postgres, { image: {} });
    expect(up([machine], running(machine, digest('b')))).toBe('nothing to do');
  });

  test('of another name keep the volumes, too; a box has none', () => {
    expect(up([of('db', nginx)], running(of('db', postgres)))).toContain(
      'machine.destroy db (keeps volumes)  (image changed)',
    );
    expect(up([container('db')], running(of('db', postgres)))).toContain('machine.destroy db  (box changed)');
    expect(up([of('db', postgres)], running(container('db')))).toContain('machine.destroy db  (image changed)');
  });

  test('and another entrypoint is a restart', () => {
    const before = of('db', postgres);
    expect(up([of('db', postgres, { entrypoint: ['x'] })], running(before))).toContain(
      'machine.start db  (entrypoint changed)',
    );
  });

  test('are called as people call them', () => {
    const get = { do: 'image.ensure', image: nginx } as const;
    expect(describeAction(get)).toBe('get image nginx:1.27');
    expect(wordsOf(get)).toMatchObject({ row: 'image nginx:1.27', doing: 'getting' });
    const pinned = { do: 'image.ensure', image: `ghcr.io/x/y@${digest('a')}` } as const;
    expect(wordsOf(pinned).row).toBe('image ghcr.io/x/y@sha256:aaaaaaaaaaaa…');
    expect(wordsOf({ do: 'machine.destroy', machine: 'db', keep: 'volumes' }).todo).toBe('destroy all but its volumes');
  });
});
