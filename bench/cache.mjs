import { join } from 'node:path';
import { interleave } from './measure.mjs';
import { boxName, buildBox, createProject } from './project.mjs';

const provisionS = 20;
const steps = `provision: [{ shell: { inline: "sleep ${provisionS}; echo done >/done" } }]`;
const tsfile = (name, more) => `version: 1\nproject: ${name}\nmachines:\n  c: { image: ${boxName}${more} }\n`;

/** A container that is destroyed and made again: with provisioning from the cache, beside one that has none. */
export const cache = {
  name: 'cache',
  rounds: 15,
  async run({ dir, rounds, cleanup }) {
    await buildBox('container');
    const cached = createProject(join(dir, 'cached'), tsfile('bench-cached', `, cache: true, ${steps}`));
    const plain = createProject(join(dir, 'plain'), tsfile('bench-plain', ''));
    for (const project of [cached, plain]) {
      cleanup(() => project.time('destroy', '-f'));
      await project.time('up', '--quiet');
    }
    const again = async (project) => (await project.time('destroy', '-f')) + (await project.time('up', '--quiet'));
    const ms = await interleave(
      [async () => ({ cached: await again(cached) }), async () => ({ plain: await again(plain) })],
      { rounds, warmups: 2 },
    );
    return [
      {
        what: `\`destroy\` and \`up\` of a container with ${provisionS} s of provisioning, cached`,
        ours: ms.cached,
        peer: 'the same without provisioning',
        theirs: ms.plain,
        target: 1.1,
      },
    ];
  },
};
