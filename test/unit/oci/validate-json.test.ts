import { describe, expect, test } from 'vitest';
import { findJsonMistake } from '../../../src/oci/validate-json.ts';

describe('the first mistake in JSON', () => {
  test.each([
    ['', '1:1: the text ends, a value is missing'],
    ['{\n  "a": 1\n', '3:1: the text ends, a comma or } is missing'],
    ['{"a": 1,}', '1:9: "}" where a key should be'],
    ['[1, 2,]', '1:7: "]" where a value should be'],
    ['{\n  "a" 1\n}', '2:7: "1" where a colon should be'],
    ['{"a": tru}', '1:7: "t" where a value should be'],
    ['{"a": 01}', '1:8: "1" where a comma or } should be'],
    ['{"a": [1 2]}', '1:10: "2" where a comma or ] should be'],
    ['{} x', '1:4: "x" where the end should be'],
    ["{'a': 1}", '1:2: "\'" where a key or } should be'],
    ['// note\n{}', '1:1: "/" where a value should be'],
    ['{"a": "b\nc"}', '1:9: a control character in a text; write it as an escape'],
    ['{"a": "\\x"}', '1:8: an unknown escape in a text'],
    ['{"a": "b}', '1:7: a text that does not end'],
    ['[}', '1:2: "}" where a value or ] should be'],
    [']', '1:1: "]" where a value should be'],
    ['\ufeff{}', '1:1: "\ufeff" where a value should be'],
    ['[1,\n[2,\n[3,\n  NaN]]]', '4:3: "N" where a value should be'],
    [`${'['.repeat(100_000)}`, '1:100001: the text ends, a value or ] is missing'],
  ])('of %j', (text, expected) => {
    const found = findJsonMistake(text);
    expect(found === undefined ? undefined : `${found.line}:${found.column}: ${found.message}`).toBe(expected);
  });

  test('is found exactly when JSON.parse finds one', () => {
    const whole = '{"a":[1,-2.5e+3,true,null,{}],"b\\u00e9\\n":"c \\" ","":[ ]}';
    expect(findJsonMistake(whole)).toBeUndefined();
    const isJson = (text: string): boolean => {
      try {
        JSON.parse(text);
        return true;
      } catch {
        return false;
      }
    };
    for (let at = 0; at < whole.length; at++)
      for (const put of ['', ',', '"', '}', ']', '0', '.', '\\', ' ', '\n', 'e'])
        for (const text of [whole.slice(0, at) + put, whole.slice(0, at) + put + whole.slice(at + 1)])
          expect([text, findJsonMistake(text) === undefined]).toEqual([text, isJson(text)]);
  });
});
