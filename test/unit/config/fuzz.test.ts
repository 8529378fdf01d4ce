import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loadProject } from '../../../src/config/index.ts';
import { TsvError } from '../../../src/model/errors.ts';
import { boxes, fixtures, folder } from './support.ts';

/** mulberry32: the same sequence in every run. */
function seeded(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

const valid = readFileSync(join(fixtures, 'reference/Tsfile.yaml'));
/** These do many small things; how long is not what they test. */
const patienceMs = 60_000;

const pieces = [
  '${',
  '}',
  '[',
  ']',
  '{',
  '\n',
  '\t',
  ': ',
  '- ',
  '&a ',
  '*a',
  '"',
  "'",
  '#',
  '!',
  '|',
  '~',
  '1',
  '\0',
  '__proto__',
  'null',
  '<<: ',
  '…',
  '%',
];

/** Loads each text; returns how often it was refused. Anything but a TsvError that is no defect fails the test. */
async function loadAll(count: number, make: (i: number) => Buffer): Promise<number> {
  const dir = folder();
  let refused = 0;
  for (let i = 0; i < count; i++) {
    const bytes = make(i);
    writeFileSync(join(dir, 'Tsfile.yaml'), bytes);
    try {
      await loadProject(dir, { env: {}, boxes });
    } catch (error) {
      refused += 1;
      if (
        !(error instanceof TsvError) ||
        error.code !== 'TSV_TSFILE_INVALID' ||
        error.details.length + error.message.length === 0
      ) {
        throw new Error(`text ${i}: ${JSON.stringify(bytes.toString('latin1'))}`, { cause: error });
      }
    }
  }
  return refused;
}

test(
  'random bytes are refused with nothing but a TsvError',
  async () => {
    const random = seeded(1);
    expect(await loadAll(200, () => Buffer.from(Array.from({ length: random(120) }, () => random(256))))).toBe(200);
  },
  patienceMs,
);

test(
  'random characters of YAML are refused with nothing but a TsvError',
  async () => {
    const random = seeded(2);
    const text = () => Array.from({ length: random(40) }, () => pieces[random(pieces.length)]).join('');
    expect(await loadAll(300, () => Buffer.from(text()))).toBe(300);
  },
  patienceMs,
);

test(
  'random mutations of a valid file load or are refused with nothing but a TsvError',
  async () => {
    const random = seeded(3);
    const refused = await loadAll(250, () => {
      let bytes = valid;
      for (let n = 1 + random(4); n > 0; n--) {
        const at = random(bytes.length);
        const insert =
          random(2) === 0
            ? Buffer.from(pieces[random(pieces.length)] ?? '')
            : bytes.subarray(random(bytes.length)).subarray(0, 30);
        bytes = Buffer.concat([bytes.subarray(0, at), insert, bytes.subarray(at + random(12))]);
      }
      return bytes;
    });
    expect(refused).toBeGreaterThan(60);
  },
  patienceMs,
);
