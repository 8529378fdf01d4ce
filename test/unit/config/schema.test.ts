import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { expect, test } from 'vitest';
import { schemaToMarkdown } from '../../../src/config/docs.ts';
import schema from '../../../src/config/tsfile.schema.json' with { type: 'json' };
import { describe as message } from '../../../src/config/validate.ts';
import { root } from './support.ts';

interface Node {
  readonly properties?: Record<string, Node & { readonly description?: string; readonly $ref?: string }>;
  readonly $defs?: Record<string, Node>;
}

test('the schema is valid by its own meta-schema and by strict rules', () => {
  // strictRequired does not see that the branches of a `oneOf` mean the properties beside it.
  const ajv = new Ajv2020({
    strict: true,
    strictRequired: false,
    allowUnionTypes: true,
    keywords: ['patternErrorMessage'],
  });
  expect(ajv.validateSchema(schema)).toBe(true);
  expect(() => ajv.compile(schema)).not.toThrow();
});

test('every property has a description, its own or that of its definition', () => {
  const definitions = schema.$defs as Record<string, { description?: string }>;
  const bare: string[] = [];
  const walk = (node: Node, path: string): void => {
    for (const [key, property] of Object.entries(node.properties ?? {})) {
      const inherited = definitions[property.$ref?.replace('#/$defs/', '') ?? '']?.description;
      if ((property.description ?? inherited ?? '').length < 10) bare.push(`${path}.${key}`);
    }
    for (const [name, definition] of Object.entries(node.$defs ?? {})) walk(definition, name);
  };
  walk(schema as Node, 'Tsfile');
  expect(bare).toEqual([]);
});

test('each keyword of the schema has a message of its own', () => {
  const silent = new Set([
    '$schema',
    '$id',
    '$ref',
    '$defs',
    'title',
    'description',
    'default',
    'examples',
    'patternErrorMessage',
    'properties',
    'items',
    'propertyNames',
  ]);
  const keywords = new Set<string>();
  const walk = (node: unknown): void => {
    if (Array.isArray(node)) node.forEach(walk);
    if (typeof node !== 'object' || node === null || Array.isArray(node)) return;
    for (const [keyword, value] of Object.entries(node)) {
      keywords.add(keyword);
      if (keyword === 'properties' || keyword === '$defs') Object.values(value as object).forEach(walk);
      else if (['items', 'propertyNames', 'additionalProperties', 'oneOf'].includes(keyword)) walk(value);
    }
  };
  walk(schema);
  for (const keyword of [...keywords].filter((name) => !silent.has(name))) {
    const error = { keyword, instancePath: '/x', schemaPath: '', params: { allowedValues: [] }, schema: [], data: 'y' };
    expect(message(error)[0], keyword).not.toContain(`(${keyword})`);
  }
  expect(keywords).toContain('oneOf');
});

test('docs/tsfile.md is what the schema says; if not, run: npm run docs', () => {
  expect(readFileSync(join(root, 'docs/tsfile.md'), 'utf8')).toBe(schemaToMarkdown(schema));
});
