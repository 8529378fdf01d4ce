import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { interleave } from './measure.mjs';
import { boxName, buildBox, createProject } from './project.mjs';

const many = 50;
const few = 5;

/** Fifty containers at once; whether each costs more than one of five, and how much memory it takes. */
export const manyContainers = {
  name: 'many',
  rounds: 3,
  async run({ dir, rounds, cleanup, docker }) {
    await buildBox('container');
    const project = (name, count) => {
      const made = createProject(
        join(dir, name),
        `version: 1\nproject: bench-${name}\nmachines:\n  c: { image: ${boxName}, replicas: ${count} }\n`,
      );
      cleanup(() => made.time('destroy', '-f'));
      return made;
    };
    const [fifty, five] = [project('fifty', many), project('five', few)];
    const compose = await composeMany(join(dir, 'many-compose'), await docker());
    if (compose !== undefined) cleanup(compose.down);
    const cycle = async (made) => {
      const ms = await made.time('up', '--quiet');
      await made.time('destroy', '-f', '--quiet');
      return ms;
    };
    /** What is gone when `few` containers have become `many`: the agent is there before. */
    const memory = async () => {
      await project('grows', few).time('up', '--quiet');
      const before = availableMiB();
      const made = project('grows', many);
      await made.time('up', '--quiet');
      const used = before - availableMiB();
      await made.time('destroy', '-f', '--quiet');
      return used / (many - few);
    };
    const measured = await interleave(
      [
        async () => ({ fifty: await cycle(fifty) }),
        async () => ({ five: await cycle(five) }),
        async () => ({ memory: await memory() }),
        ...(compose === undefined
          ? []
          : [
              async () => {
                const before = availableMiB();
                const up = await compose.up();
                const used = before - availableMiB();
                await compose.down();
                return { compose: up, composeMemory: used / many };
              },
            ]),
      ],
      { rounds, warmups: 1 },
    );
    const each = (values, count) => values.map((value) => value / count);
    return [
      {
        what: `\`tsv up\`, ${many} containers`,
        ours: measured.fifty,
        peer: '`compose up -d`',
        theirs: measured.compose,
        target: 0.5,
      },
      {
        what: `each of ${many}`,
        ours: each(measured.fifty, many),
        peer: `each of ${few}`,
        theirs: each(measured.five, few),
        target: 1.2,
      },
      {
        what: `memory of each of ${many}, \`sleep\` included`,
        unit: 'MiB',
        ours: measured.memory,
        peer: 'with compose',
        theirs: measured.composeMemory,
      },
    ];
  },
};

const availableMiB = () => Number(/^MemAvailable:\s*(\d+)/m.exec(readFileSync('/proc/meminfo', 'utf8'))[1]) / 1024;

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
