import { copyFileSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { programPath } from './docker.mjs';
import { interleave, run, time } from './measure.mjs';
import { emptyNode, tsv } from './project.mjs';

/** `/bin/true` in a bundle of its own, from nothing to gone, beside runc with the same bundle. */
export const oci = {
  name: 'oci',
  rounds: 21,
  async run({ dir, rounds, skip }) {
    if (process.getuid() !== 0) return skipped(skip, 'bundles of root are run by root only');
    const busybox = programPath('busybox');
    if (busybox === undefined) return skipped(skip, 'busybox is not installed (Debian: busybox-static)');
    const bundle = await makeBundle(join(dir, 'bundle'), busybox);
    const runc = programPath('runc');
    if (runc === undefined) skip('runc is not installed (Debian: runc)');
    let count = 0;
    const once = (program) => time([...program, 'run', '--bundle', bundle, `tsv-bench-${process.pid}-${count++}`]);
    const ms = await interleave(
      [
        async () => ({ node: await emptyNode() }),
        async () => ({ tsv: await once([...tsv, 'oci']) }),
        ...(runc === undefined ? [] : [async () => ({ runc: await once([runc]) })]),
      ],
      { rounds, warmups: 3 },
    );
    const row = { what: '`tsv oci run` of true', ours: ms.tsv };
    return [
      { ...row, peer: '`node -e 0`', theirs: ms.node, target: 2.5 },
      ...(runc === undefined ? [] : [{ ...row, peer: '`runc run`, the same', theirs: ms.runc }]),
    ];
  },
};

export const skipped = (skip, why) => {
  skip(why);
  return [];
};

export async function makeBundle(folder, busybox) {
  const bin = join(folder, 'rootfs', 'bin');
  mkdirSync(bin, { recursive: true });
  copyFileSync(busybox, join(bin, 'busybox'));
  symlinkSync('busybox', join(bin, 'true'));
  await run([...tsv, 'oci', 'spec', '--bundle', folder]);
  const { default: spec } = await import(join(folder, 'config.json'), { with: { type: 'json' } });
  const process = { ...spec.process, terminal: false, args: ['true'] };
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...spec, process }));
  return folder;
}
