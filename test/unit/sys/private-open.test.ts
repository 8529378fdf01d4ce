import { join } from 'node:path';
import { expect, test } from 'vitest';
import { privateOpen } from '../../../src/sys/private-open.ts';
import { assemble, hasAssembler } from '../../support/assemble.ts';

test.skipIf(!hasAssembler)('the library is what its source says (skipped where no assembler is installed)', () => {
  const source = join(import.meta.dirname, '..', '..', '..', 'src', 'sys', 'private-open.s');
  expect(assemble(source)).toBe(privateOpen.toString('hex'));
});
