import { Ajv2020 } from 'ajv/dist/2020.js';
import { expect, test } from 'vitest';
import options from '../../../src/oci/ajv-options.json' with { type: 'json' };
import schema from '../../../src/oci/config.schema.json' with { type: 'json' };
import { hookKinds, namespaceTypes } from '../../../src/oci/spec.ts';
import { patternMessages, printPath, quote, schemaProblems } from '../../../src/oci/validate-schema.ts';

/** Every object of the schema. */
function* subschemas(value: unknown): Generator<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null) return;
  if (!Array.isArray(value)) yield value as Record<string, unknown>;
  for (const inner of Object.values(value)) yield* subschemas(inner);
}

test('the schema is one, of the draft that it names', () => {
  const ajv = new Ajv2020({ ...options, meta: true, validateSchema: true });
  expect(ajv.validateSchema(schema)).toBe(true);
});

test('every definition is used', () => {
  const used = new Set([...subschemas(schema)].map(({ $ref }) => $ref));
  for (const name of Object.keys(schema.$defs)) expect(used).toContain(`#/$defs/${name}`);
});

test('every pattern has its message, every message its pattern', () => {
  const patterns = [...subschemas(schema)].flatMap(({ pattern }) => (typeof pattern === 'string' ? [pattern] : []));
  expect([...new Set(patterns)].sort()).toEqual(Object.keys(patternMessages).sort());
});

test('the kinds of hooks and namespaces are those of the types', () => {
  expect(Object.keys(schema.properties.hooks.properties)).toEqual([...hookKinds]);
  expect(schema.$defs.linux.properties.namespaces.items.properties.type.enum).toEqual([...namespaceTypes]);
});

test('unknown properties are allowed everywhere', () => {
  for (const { additionalProperties } of subschemas(schema)) expect(additionalProperties).not.toBe(false);
});

test('a document that is no object has one problem', () => {
  expect(schemaProblems([])).toEqual([{ path: [], message: 'must be an object, not a list' }]);
  expect(schemaProblems('x')).toEqual([{ path: [], message: 'must be an object, not "x"' }]);
});

test('paths are written as in JavaScript', () => {
  expect(printPath(['linux', 'devices', 3, 'path'])).toBe('linux.devices[3].path');
  expect(printPath(['linux', 'sysctl', 'net.core.x', 'a"b'])).toBe('linux.sysctl["net.core.x"]["a\\"b"]');
  expect(printPath([0, 'a'])).toBe('[0].a');
});

test('values are shown in one line of bounded length', () => {
  expect(quote('a\n\u001b[31m')).toBe('"a\\n\\u001b[31m"');
  expect(quote('x'.repeat(1000))).toHaveLength(62);
  expect([quote([]), quote({}), quote(null), quote(-1.5)]).toEqual(['a list', 'an object', 'null', '-1.5']);
});
