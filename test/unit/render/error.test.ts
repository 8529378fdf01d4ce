import { expect, test } from 'vitest';
import { renderError } from '../../../src/cli/render/error.ts';
import { TsvError } from '../../../src/model/errors.ts';
import { ascii, coloured, pipe, visible } from './support.ts';

const taken = new TsvError('TSV_PORT_TAKEN', 'port 8080 of 127.0.0.1 is in use', {
  details: ['machine lb wants it for its port 80', 'held by nginx (process 812)'],
  hint: 'stop it, or take another port in the Tsfile: forwards',
});

test('an error says what failed, where and why, and what to do', () => {
  expect(renderError(taken, pipe)).toBe(`tsv: port 8080 of 127.0.0.1 is in use [TSV_PORT_TAKEN]
  machine lb wants it for its port 80
  held by nginx (process 812)
→ stop it, or take another port in the Tsfile: forwards
`);
});

test('an error has colours and does without Unicode', () => {
  expect(
    visible(renderError(taken, { ...ascii, colour: true })),
  ).toBe(`<31><1>tsv:<22><39> port 8080 of 127.0.0.1 is in use <2>[TSV_PORT_TAKEN]<22>
  machine lb wants it for its port 80
  held by nginx (process 812)
<36>-><39> stop it, or take another port in the Tsfile: forwards
`);
});

test('the mistakes of a Tsfile keep their shape, their carets in red', () => {
  const mistakes = new TsvError('TSV_TSFILE_INVALID', '2 mistakes in Tsfile.yaml', {
    details: [
      'Tsfile.yaml:4:5: unknown word: memroy\n        memroy: 1G\n        ^~~~~~\n    did you mean memory?',
      'Tsfile.yaml:9:1: no machines',
    ],
    hint: 'mend them, then: tsv validate',
  });
  expect(
    visible(renderError(mistakes, coloured)),
  ).toBe(`<31><1>tsv:<22><39> 2 mistakes in Tsfile.yaml <2>[TSV_TSFILE_INVALID]<22>
  <1>Tsfile.yaml:4:5:<22> unknown word: memroy
          memroy: 1G
  <31>        ^~~~~~<39>
      did you mean memory?
  <1>Tsfile.yaml:9:1:<22> no machines
<36>→<39> mend them, then: tsv validate
`);
});

test('only a defect of tsv shows a stack trace, and asks to report it', () => {
  const text = renderError(new TypeError('x is not a function'), pipe);
  const lines = text.split('\n');
  expect(lines[0]).toBe('tsv: x is not a function [TSV_INTERNAL]');
  expect(lines[1]).toMatch(/^ {2}at .*error\.test\.ts/);
  expect(lines.at(-2)).toMatch(/^→ this is a defect in tsv: please report it/);
  expect(renderError(new TsvError('TSV_SSH', 'x', { cause: new Error('y') }), pipe)).toBe('tsv: x [TSV_SSH]\n');
});

test.each([['a text'], [undefined], [null], [42], [{ message: 'no error' }]])(
  'whatever is thrown can be shown: %j',
  (thrown) => {
    expect(renderError(thrown, pipe)).toMatch(/^tsv: .+ \[TSV_INTERNAL\]\n/);
  },
);

test('an error without a message says what its code means', () => {
  expect(renderError(new TsvError('TSV_SSH', ' '), pipe)).toBe('tsv: an SSH connection failed [TSV_SSH]\n');
});

test('nothing in an error can do anything to the terminal', () => {
  const evil = '\x1b[2J\x1b]0;t\x07evil\x9b1A';
  const error = new TsvError('TSV_PROVISION', `a ${evil}`, { details: [`b ${evil}\nc`], hint: `d ${evil}\ne` });
  expect(renderError(error, pipe)).toBe('tsv: a evil [TSV_PROVISION]\n  b evil\n  c\n→ d evil\n  e\n');
});
