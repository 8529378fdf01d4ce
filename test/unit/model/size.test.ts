import { expect, test } from 'vitest';
import { parseSize } from '../../../src/config/units.ts';
import { sizeText } from '../../../src/model/size.ts';

test.each([
  [2 ** 31, '2G'],
  [1.5 * 2 ** 30, '1536M'],
  [3 * 2 ** 40, '3T'],
  [1024, '1K'],
  [1025, '1025'],
  [0, '0'],
])('a size of %i bytes is written as a Tsfile has it: %s', (bytes, written) => {
  expect(sizeText(bytes)).toBe(written);
  expect(parseSize(written)).toBe(bytes);
});
