import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { interleave } from './measure.mjs';
import { buildBox, createProject, fourContainers } from './project.mjs';

/** Four containers from nothing, and gone again: same root file system, one network of their own with a way out. */
export const containers = {
  name: 'containers',
  rounds: 9,
  async run({ dir, rounds, cleanup, docker }) {
    await buildBox('container');
    const project = createProject(join(dir, 'four'), fourContainers('bench-four'));
    cleanup(() => project.time('destroy', '-f'));
    const compose = await composeProject(join(dir, 'compose'), await docker());
    if (compose !== undefined) cleanup(compose.down);
    const ms = await interleave(
      [
        async () => ({
          up: await project.time('up', '--quiet'),
          destroy: await project.time('destroy', '-f', '--quiet'),
        }),
        ...(compose === undefined
          ? []
          : [async () => ({ composeUp: await compose.up(), composeDown: await compose.down() })]),
      ],
      { rounds, warmups: 1 },
    );
    return [
      { what: '`tsv up`, four containers', ours: ms.up, peer: '`compose up -d`', theirs: ms.composeUp, target: 0.6 },
      {
        what: '`tsv destroy -f`, four containers',
        ours: ms.destroy,
        peer: '`compose down -t 0`',
        theirs: ms.composeDown,
        target: 0.6,
      },
    ];
  },
};

async function composeProject(dir, docker) {
  if (docker?.compose === undefined) return undefined;
  const service = `{ image: ${await docker.image()}, command: [sleep, infinity] }`;
  mkdirSync(dir, { recursive: true });
  const file = join(dir, 'docker-compose.yml');
  writeFileSync(file, `version: "3"\nservices:\n${[1, 2, 3, 4].map((n) => `  c-${n}: ${service}\n`).join('')}`);
  const call = (...args) => docker.compose('--project-name', 'tsv-bench', '--file', file, ...args);
  return { up: () => call('up', '-d'), down: () => call('down', '-t', '0') };
}
