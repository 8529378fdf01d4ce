import { createHash } from 'node:crypto';
import { closeSync, mkdirSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { interleave } from './measure.mjs';
import { boxName, buildBox, createProject } from './project.mjs';

const MiB = 1 << 20;
const files = 20_000;

/** A file of 1 GB, and 20,000 files of 1 to 8 KiB in 200 folders, into a container and out again. */
export const copy = {
  name: 'copy',
  rounds: 5,
  async run({ dir, rounds, cleanup, docker }) {
    await buildBox('container');
    const project = createProject(
      join(dir, 'copy'),
      `version: 1\nproject: bench-copy\nmachines:\n  c: { image: ${boxName} }\n`,
    );
    cleanup(() => project.time('destroy', '-f'));
    await project.time('up', '--quiet');
    const from = makeFiles(join(dir, 'copied'));
    const to = join(dir, 'back');
    const container = 'tsv-bench-copy';
    const peer = await docker();
    if (peer !== undefined) {
      cleanup(() => peer.time('rm', '--force', container));
      await peer.time('run', '--detach', '--name', container, await peer.image(), 'sleep', 'infinity');
    }
    const ours = {
      copy: (...args) => project.time('cp', '--quiet', ...args),
      exec: (...args) => project.time('exec', 'c', '--', ...args),
      machine: 'c',
    };
    const theirs = peer && {
      copy: (...args) => peer.time('cp', ...args),
      exec: (...args) => peer.time('exec', container, ...args),
      machine: container,
    };
    /** Both ways, into nothing that is there: what is in the way is removed outside the measured time. */
    const there = async (way, name, source) => {
      const into = await way.copy(source, `${way.machine}:/tmp/copied`);
      mkdirSync(to);
      const out = await way.copy(`${way.machine}:/tmp/copied`, to);
      rmSync(to, { recursive: true });
      await way.exec('rm', '-rf', '/tmp/copied');
      return { [`${name} in`]: into, [`${name} out`]: out };
    };
    const both = (name, source) => [
      () => there(ours, name, source),
      ...(theirs === undefined ? [] : [() => there(theirs, `docker ${name}`, source)]),
    ];
    const ms = await interleave([...both('one', from.one), ...both('many', from.many)], { rounds, warmups: 1 });
    const row = (what, name) => ({
      what,
      ours: ms[name],
      peer: '`docker cp`',
      theirs: ms[`docker ${name}`],
      target: 1,
    });
    return [
      row('`tsv cp` of 1 GB, into a container', 'one in'),
      row('the same, out of it', 'one out'),
      row('`tsv cp` of 20,000 small files, into it', 'many in'),
      row('the same, out of it', 'many out'),
    ];
  },
};

/** What is in them cannot be compressed. */
function makeFiles(dir) {
  mkdirSync(dir);
  const one = join(dir, 'one');
  const fd = openSync(one, 'w');
  for (let at = 0; at < 1000; at++) writeSync(fd, noise(at, MiB));
  closeSync(fd);
  const many = join(dir, 'many');
  for (let at = 0; at < files; at++) {
    const folder = join(many, String(at % 200));
    if (at < 200) mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, `file-${at}`), noise(at, 1024 * (1 + (at % 8))));
  }
  return { one, many };
}

const noise = (seed, length) => createHash('shake256', { outputLength: length }).update(String(seed)).digest();
