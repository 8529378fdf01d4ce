import { join } from 'node:path';
import { interleave } from './measure.mjs';
import { buildBox, createProject, emptyNode, fourContainers } from './project.mjs';

/** `tsv status`, while four containers run and where nothing was made yet. */
export const status = {
  name: 'status',
  rounds: 21,
  async run({ dir, rounds, cleanup }) {
    await buildBox('container');
    const running = createProject(join(dir, 'running'), fourContainers('bench-status'));
    const none = createProject(join(dir, 'none'), fourContainers('bench-none'));
    cleanup(() => running.time('destroy', '-f'));
    await running.time('up', '--quiet');
    const ms = await interleave(
      [
        async () => ({ node: await emptyNode() }),
        async () => ({ running: await running.time('status') }),
        async () => ({ none: await none.time('status') }),
      ],
      { rounds, warmups: 3 },
    );
    return [
      {
        what: '`tsv status`, four containers run',
        ours: ms.running,
        peer: '`node -e 0`',
        theirs: ms.node,
        target: 1.3,
      },
      { what: '`tsv status`, nothing made yet', ours: ms.none, peer: '`node -e 0`', theirs: ms.node, target: 1.3 },
    ];
  },
};
