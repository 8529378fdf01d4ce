import { join } from 'node:path';
import { interleave } from './measure.mjs';
import { boxName, buildBox, createProject, emptyNode } from './project.mjs';

/** One command in a container that runs. */
export const exec = {
  name: 'exec',
  rounds: 21,
  async run({ dir, rounds, cleanup, docker }) {
    await buildBox('container');
    const project = createProject(
      join(dir, 'exec'),
      `version: 1\nproject: bench-exec\nmachines:\n  c: { image: ${boxName} }\n`,
    );
    cleanup(() => project.time('destroy', '-f'));
    await project.time('up', '--quiet');
    const peer = await docker();
    const container = 'tsv-bench-exec';
    if (peer !== undefined) {
      cleanup(() => peer.time('rm', '--force', container));
      await peer.time('run', '--detach', '--name', container, await peer.image(), 'sleep', 'infinity');
    }
    const ms = await interleave(
      [
        async () => ({ node: await emptyNode() }),
        async () => ({ tsv: await project.time('exec', 'c', '--', 'true') }),
        ...(peer === undefined ? [] : [async () => ({ docker: await peer.time('exec', container, 'true') })]),
      ],
      { rounds, warmups: 3 },
    );
    const row = { what: '`tsv exec NAME -- true`', ours: ms.tsv };
    return [
      { ...row, peer: '`node -e 0`', theirs: ms.node, target: 1.3 },
      ...(peer === undefined ? [] : [{ ...row, peer: '`docker exec NAME true`', theirs: ms.docker }]),
    ];
  },
};
