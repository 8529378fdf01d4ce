import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { interleave } from './measure.mjs';
import { boxName, buildBox, createProject } from './project.mjs';

const many = 50;
const few = 5;

/** Fifty containers at once, and whether each costs more than one of five. */
export const manyContainers = {
  name: 'many',
  rounds: 3,
  async run({ dir, rounds, cleanup, docker }) {
    await buildBox('container');
    const project = (count) => {
      const made = createProject(
        join(dir, `many-${count}`),
        `version: 1\nproject: bench-${count}\nmachines:\n  c: { image: ${boxName}, replicas: ${count} }\n`,
      );
      cleanup(() => made.time('destroy', '-f'));
      return made;
    };
    const [fifty, five] = [project(many), project(few)];
    const compose = await composeMany(join(dir, 'many-compose'), await docker());
    if (compose !== undefined) cleanup(compose.down);
    const cycle = async (made) => {
      const ms = await made.time('up', '--quiet');
      await made.time('destroy', '-f', '--quiet');
      return ms;
    };
    const ms = await interleave(
      [
        async () => ({ fifty: await cycle(fifty) }),
        async () => ({ five: await cycle(five) }),
        ...(compose === undefined
          ? []
          : [
              async () => {
                const up = await compose.up();
                await compose.down();
                return { compose: up };
              },
            ]),
      ],
      { rounds, warmups: 1 },
    );
    const each = (values, count) => values.map((value) => value / count);
    return [
      {
        what: `\`tsv up\`, ${many} containers`,
        ours: ms.fifty,
        peer: '`compose up -d`',
        theirs: ms.compose,
        target: 0.5,
      },
      {
        what: `each of ${many}`,
        ours: each(ms.fifty, many),
        peer: `each of ${few}`,
        theirs: each(ms.five, few),
        target: 1.2,
      },
    ];
  },
};

async function composeMany(dir, docker) {
  if (docker?.compose === undefined) return undefined;
  const service = `{ image: ${await docker.image()}, command: [sleep, infinity] }`;
  mkdirSync(dir, { recursive: true });
  const file = join(dir, 'docker-compose.yml');
  const services = Array.from({ length: many }, (_, n) => `  c-${n}: ${service}\n`).join('');
  writeFileSync(file, `version: "3"\nservices:\n${services}`);
  const call = (...args) => docker.compose('--project-name', 'tsv-bench-many', '--file', file, ...args);
  return { up: () => call('up', '-d'), down: () => call('down', '-t', '0') };
}
