import { join } from 'node:path';
import { programPath } from './docker.mjs';
import { interleave, run, time } from './measure.mjs';
import { makeBundle, skipped } from './oci.mjs';
import { boxName, buildBox, createProject, tsv } from './project.mjs';

/** From the agent's decision to start a container until its command is executed, beside all of a `runc run`. */
export const start = {
  name: 'start',
  rounds: 21,
  async run({ dir, rounds, cleanup, skip }) {
    if (process.getuid() !== 0) return skipped(skip, 'bundles of root are run by root only');
    const [busybox, runc] = ['busybox', 'runc'].map(programPath);
    if (busybox === undefined || runc === undefined) return skipped(skip, 'busybox-static or runc is not installed');
    await buildBox('container');
    const bundle = await makeBundle(join(dir, 'start-bundle'), busybox);
    const machine = `{ image: ${boxName}, command: [sleep, infinity] }`;
    // Another container keeps the agent there.
    const project = createProject(
      join(dir, 'start'),
      `version: 1\nproject: bench-start\nmachines:\n  c: ${machine}\n  other: ${machine}\n`,
    );
    cleanup(() => project.time('destroy', '-f'));
    await project.time('up', '--quiet');
    let count = 0;
    const ms = await interleave(
      [
        async () => {
          await project.time('destroy', '-f', 'c');
          const { stdout } = await run([...tsv, 'up', 'c', '--json'], { cwd: project.dir });
          return { tsv: stepTime(stdout, 'machine.start') };
        },
        async () => ({ runc: await time([runc, 'run', '--bundle', bundle, `tsv-start-${process.pid}-${count++}`]) }),
      ],
      { rounds, warmups: 5 },
    );
    return [
      {
        what: 'a start within the agent, with its network',
        ours: ms.tsv,
        peer: '`runc run` of true',
        theirs: ms.runc,
        target: 1,
      },
    ];
  },
};

/** Milliseconds of one step in what `up --json` prints. */
function stepTime(text, wanted) {
  const lines = text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  const { nodes } = lines.find(({ type }) => type === 'plan').plan;
  const { id } = nodes.find(({ action }) => action.do === wanted);
  return lines.find((line) => line.type === 'step.end' && line.id === id).ms;
}
