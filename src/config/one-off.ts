import { TsvError } from '../model/errors.ts';
import type { Machine } from '../model/project.ts';
import { readMachine, type Surroundings } from './machines.ts';
import { buildMachine } from './project.ts';
import { fieldOf } from './read.ts';
import type { Node } from './tree.ts';

/**
 * A container that the Tsfile does not have, as if it stood there with nothing but this `image`: what the file says in
 * `defaults` is its, too. Named `run`. @throws TSV_USAGE when that is no image's name
 */
export function readOneOff(root: Node, image: string, where: Surroundings): Machine {
  const span = { start: 0, end: 0 };
  const entry = (key: string, value: Node) => ({ key, keySpan: span, value });
  const entries = new Map([['image', entry('image', { kind: 'scalar', span, value: image, text: image })]]);
  const draft = readMachine(
    entry('run', { kind: 'map', span, entries }),
    fieldOf(root, 'defaults'),
    where,
    (_, message, hint) => {
      throw new TsvError('TSV_USAGE', message, hint === undefined ? {} : { hint });
    },
  );
  return { ...buildMachine(draft.name, draft, new Map()), oneOff: true };
}
