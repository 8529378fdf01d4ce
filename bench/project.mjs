import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run, time } from './measure.mjs';

/** The built command of this checkout. */
export const tsv = [process.execPath, join(import.meta.dirname, '../dist/tsv.js')];

/** What a command costs at the least, whatever it does. */
export const emptyNode = () => time([process.execPath, '-e', '0']);

export const boxName = 'debian-12';

/** A project folder with this Tsfile, and the command in it. */
export function createProject(dir, tsfile) {
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, 'Tsfile.yaml'), tsfile);
  return {
    dir,
    /** @returns {Promise<number>} milliseconds */
    time: (...args) => time([...tsv, ...args], { cwd: dir }),
  };
}

/** c-1 to c-4 on one network with a way out. */
export const fourContainers = (name) =>
  `version: 1\nproject: ${name}\nmachines:\n  c: { image: ${boxName}, replicas: 4 }\n`;

/** Builds what is missing of a box: part of no figure. */
export const buildBox = (kind) => run([...tsv, 'box', 'build', boxName, '--kind', kind, '--quiet']);
