import { describe, expect, test } from 'vitest';
import { complaintLines, parseComplaints } from '../../../../src/store/registry/failures.ts';
import { nearest } from '../../../../src/store/registry/nearest.ts';
import { nextLink } from '../../../../src/store/registry/tags.ts';

test.each([
  ['</v2/a/tags/list?n=2&last=b>; rel="next"', '/v2/a/tags/list?n=2&last=b'],
  ['<x>;rel=next', 'x'],
  ['<a>; rel="prev", <b>; title="x"; rel="next"', 'b'],
  ['<a>; rel="prev next"', 'a'],
  ['<a>; rel="nextish"', undefined],
  ['<a>; rel="prev"', undefined],
  ['', undefined],
  [undefined, undefined],
])('the Link %j leads to %s', (field, target) => {
  expect(nextLink(field)).toBe(target);
});

describe('what a registry says of a failure', () => {
  test.each([
    [
      '{"errors":[{"code":"DENIED","message":"requested access to the resource is denied","detail":{}}]}',
      ['it says: requested access to the resource is denied (DENIED)'],
    ],
    ['{"errors":[{"code":"TOOMANYREQUESTS"}]}', ['it says: TOOMANYREQUESTS']],
    ['{"details":"incorrect username or password"}', ['it says: incorrect username or password']],
    ['{"error":"invalid_grant","error_description":"expired"}', ['it says: expired']],
    ['slow down', ['it says: slow down']],
    ['<html>busy</html>', []],
    ['', []],
    ['{"errors":[null,7]}', ['it says: ', 'it says: ']],
  ])('%s', (text, lines) => {
    expect(complaintLines(parseComplaints(text))).toEqual(lines);
  });

  test('reaches no terminal as more than text, and not without end', () => {
    const [said = ''] = complaintLines(
      parseComplaints(JSON.stringify({ message: `\u001b[2J\u202e${'x'.repeat(9999)}` })),
    );
    expect(said).not.toMatch(/[\p{Cc}\p{Cf}]/u);
    expect(said.length).toBeLessThan(400);
  });
});

test('the nearest tags are those that somebody may have meant', () => {
  const tags = ['latest', '1.25', '1.26', '1.27', '1.27.0', '1.27.1', '1.27-alpine', 'stable', 'mainline', '2.0'];
  expect(nearest('1.27.9', tags, 3)).toEqual(['1.27.1', '1.27.0', '1.27']);
  expect(nearest('lates', tags, 1)).toEqual(['latest']);
  expect(nearest('1.2', [], 3)).toEqual([]);
});
