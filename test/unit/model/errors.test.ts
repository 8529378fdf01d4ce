import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { errorCodes, TsvError, toTsvError } from '../../../src/model/errors.ts';

test('docs/errors.md lists every code with its meaning, and no other', () => {
  const rows = [...readFileSync('docs/errors.md', 'utf8').matchAll(/^\| `(TSV_\w+)` \| (.*) \|$/gm)].map((match) => [
    match[1],
    match[2],
  ]);
  expect(rows).toEqual(Object.entries(errorCodes));
});

test('an error crosses the socket with everything that it says', () => {
  const error = new TsvError('TSV_PORT_TAKEN', 'port 80 is in use', {
    hint: 'use another',
    details: ['by nginx'],
    exitCode: 3,
  });
  const copy = TsvError.fromJSON(JSON.parse(JSON.stringify(error)));
  expect({ ...copy, message: copy.message }).toEqual({ ...error, message: error.message });
});

test('anything that is no TsvError becomes TSV_INTERNAL and keeps its cause', () => {
  const cause = new RangeError('too far');
  expect(toTsvError(cause)).toMatchObject({ code: 'TSV_INTERNAL', message: 'too far', cause });
  expect(toTsvError('plain text')).toMatchObject({ code: 'TSV_INTERNAL', message: 'plain text' });
});
