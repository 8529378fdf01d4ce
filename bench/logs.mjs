import { watch } from 'node:fs';
import { join } from 'node:path';
import { interleave, run } from './measure.mjs';
import { boxName, buildBox, createProject, tsv } from './project.mjs';

const lines = 1_000_000;
const print = `seq ${lines}`;

/** A million lines that a container has printed, to a pipe. */
export const logs = {
  name: 'logs',
  rounds: 9,
  async run({ dir, rounds, cleanup, docker }) {
    await buildBox('container');
    const project = createProject(
      join(dir, 'logs'),
      `version: 1\nproject: bench-logs\nmachines:\n  c: { image: ${boxName}, command: "${print}; exec sleep infinity" }\n`,
    );
    cleanup(() => project.time('destroy', '-f'));
    await project.time('up', '--quiet');
    const ours = (...args) => project.time('logs', ...args, 'c');
    await printed(project);
    const peer = await docker();
    const container = 'tsv-bench-logs';
    if (peer !== undefined) {
      cleanup(() => peer.time('rm', '--force', container));
      // Waits until it has ended, and so until all is printed.
      await peer.time('run', '--name', container, await peer.image(), 'sh', '-c', print);
    }
    const theirs = (what, ...args) =>
      peer === undefined ? [] : [async () => ({ [what]: await peer.time('logs', ...args, container) })];
    const ms = await interleave(
      [
        async () => ({ all: await ours() }),
        ...theirs('dockerAll'),
        async () => ({ timed: await ours('--timestamps') }),
        ...theirs('dockerTimed', '--timestamps'),
        async () => ({ tail: await ours('--tail', '10') }),
        ...theirs('dockerTail', '--tail', '10'),
      ],
      { rounds, warmups: 1 },
    );
    const row = (what, mine, options, other) => ({
      what,
      ours: mine,
      peer: `\`docker logs${options}\``,
      theirs: other,
    });
    return [
      { ...row('`tsv logs`, a million lines', ms.all, '', ms.dockerAll), target: 2 },
      { ...row('the same with `--timestamps`', ms.timed, ' --timestamps', ms.dockerTimed), target: 2 },
      // What is left to do is little beside starting Node: no ratio is wanted.
      row('the last 10 of them', ms.tail, ' --tail 10', ms.dockerTail),
    ];
  },
};

/** Until the last line is there. */
async function printed(project) {
  const folder = join(project.dir, '.ts-vm', 'machines', 'c');
  const last = async () => (await run([...tsv, 'logs', '--tail', '1', 'c'], { cwd: project.dir })).stdout.trim();
  const watcher = watch(folder);
  try {
    for (;;) {
      const changed = new Promise((resolve) => watcher.once('change', resolve));
      if ((await last()) === String(lines)) return;
      await changed;
    }
  } finally {
    watcher.close();
  }
}
