import { expect, test } from 'vitest';
import { failure, headlines, load, machine, machines, mistakes } from './support.ts';

test('a quote that is never closed is rendered like every other mistake', async () => {
  const [first] = await mistakes('version: 1\nproject: "shop\n');
  expect(first).toBe('Tsfile.yaml:3:1: this quote is never closed');
});

test('a tab as indentation is named', async () => {
  expect(await mistakes('version: 1\nmachines:\n\ta: { image: d }\n')).toEqual([
    'Tsfile.yaml:3:1: a tab cannot be used to indent\n     a: { image: d }\n    ^\n    use spaces',
  ]);
});

test('lines that are not indented like their neighbours, half brackets, unknown anchors and tags are syntax mistakes', async () => {
  expect(await headlines('version: 1\nmachines:\n    a: { image: d }\n  b: { image: d }\n')).toEqual([
    '4:3: this line is not indented like its neighbours',
  ]);
  expect(await headlines('version: [1\n')).toHaveLength(1);
  expect(await headlines('version: *one\n')).toEqual(['1:10: no anchor &one stands before this alias']);
  expect(await headlines('version: !one 1\n')).toEqual(['1:10: tags (!name) mean nothing in a Tsfile']);
  expect(await headlines('version: 1\n---\nversion: 1\n')).toEqual([
    '2:1: a second document starts here; a Tsfile is one',
  ]);
  expect(await headlines('%YAML 1.1\n---\nversion: 1\n')).toEqual(['1:1: YAML 1.1 is not supported']);
});

test('an empty file, a comment alone and a file that is not a map are refused', async () => {
  expect(await headlines('')).toEqual(['1:1: the file is empty']);
  expect(await headlines('# nothing yet\n')).toEqual(['1:1: the file is empty']);
  expect(await headlines('- version: 1\n')).toEqual(['1:1: the Tsfile must be a map, not a list']);
  expect(await headlines('hello\n')).toEqual(['1:1: the Tsfile must be a map, not the text "hello"']);
});

test('duplicate keys are reported with the line of the first, and hide nothing else', async () => {
  const all = await mistakes(
    machines('  a: { image: d, memory: 1 }\n  a: { image: d }\n  b: { image: d, image: e }\n'),
  );
  expect(all.map((detail) => detail.split('\n')[0])).toEqual([
    'Tsfile.yaml:3:26: the container `a` needs at least 4M of memory',
    'Tsfile.yaml:4:3: the key `a` is here a second time',
    'Tsfile.yaml:5:18: the key `image` is here a second time',
  ]);
  expect(all[1]).toContain('the first is in line 3');
});

test('__proto__ and constructor are keys like any others', async () => {
  const text = machines(
    '  a: { image: d, env: { __proto__: x, constructor: y }, __proto__: { pids: 5 } }\n  __proto__: { image: d }\n',
  );
  expect(await headlines(text)).toEqual([
    '3:57: unknown key `__proto__`',
    '4:3: "__proto__" is not a machine name (lower-case letters, digits and inner hyphens, at most 63)',
  ]);
  const project = await load(machines('  a: { image: d, env: { __proto__: x, constructor: y } }\n'));
  expect(Object.entries(machine(project, 'a').env)).toEqual([
    ['__proto__', 'x'],
    ['constructor', 'y'],
  ]);
  expect(Object.prototype).not.toHaveProperty('pids');
});

test('aliases stand for their anchors, and merge keys are refused with what to use instead', async () => {
  const project = await load(machines('  a: { image: d, env: &env { X: "1" } }\n  b: { image: d, env: *env }\n'));
  expect(machine(project, 'b').env).toEqual({ X: '1' });
  const [merge] = await mistakes(machines('  a: &a { image: d }\n  b: { image: d, <<: *a }\n'));
  expect(merge).toContain('unknown key `<<`');
  expect(merge).toContain('use `defaults`');
});

test('an alias inside its own anchor is a mistake', async () => {
  expect(await headlines('version: 1\nmachines: &m { a: *m }\n')).toContain(
    '2:19: the alias *m stands inside its own anchor',
  );
});

test('an alias bomb is refused without being expanded', async () => {
  const levels = Array.from(
    { length: 30 },
    (_, i) =>
      `l${i}: &l${i} [${Array(9)
        .fill(i === 0 ? 'x' : `*l${i - 1}`)
        .join(', ')}]`,
  );
  expect(await headlines(levels.join('\n'))).toEqual([
    '1:1: the file holds more than 20000 values (aliases count as what they stand for)',
  ]);
});

test.each([
  ['open brackets', '['.repeat(500_000)],
  ['nested lists', '- '.repeat(400_000)],
  ['one long line', `version: ${'x'.repeat(900_000)}`],
  ['many equal keys', 'version: 1\n'.repeat(90_000)],
  ['many keys', Array.from({ length: 70_000 }, (_, i) => `k${i}: 1`).join('\n')],
  ['many unclosed variables', `version: ${'${'.repeat(400_000)}`],
  ['one line of mistakes', `{${'a: {b, '.repeat(90)}${'!x y, '.repeat(15_000)}`],
  ['spaces behind a value', `version: 1${' '.repeat(900_000)}x: y`],
  ['many anchors', Array.from({ length: 40_000 }, (_, i) => `- &a${i} x`).join('\n')],
])(
  'a large file of %s is refused',
  async (_, text) => {
    expect((await failure(load(text))).code).toBe('TSV_TSFILE_INVALID');
  },
  60_000,
);

test('a thousand mistakes are counted, and a hundred listed', async () => {
  const error = await failure(
    load(machines(Array.from({ length: 1000 }, (_, i) => `  a${i}: { image: d, x: 1 }\n`).join(''))),
  );
  expect(error.message).toBe('Tsfile.yaml has 1000 mistakes');
  expect(error.details).toHaveLength(101);
  expect(error.details.at(-1)).toBe('… and 900 more');
});

test('control characters and long lines are shown safely', async () => {
  const [shown] = await mistakes(`version: 1 # ${'\u{1b}'}[31m\nmachines: {}\n`).then(([first]) => [first ?? '']);
  expect(shown).toBe('Tsfile.yaml:2:1: `machines` must not be empty\n    machines: {}\n    ^~~~~~~~');
  const [coloured] = await mistakes(machines('  a: { image: d, "x\\e[31m": 1 }\n'));
  expect(coloured).toContain('unknown key `x\u{fffd}[31m`');
  const [long] = await mistakes(machines(`  a: { image: d, env: { X: ${'y'.repeat(5000)} }, oops: 1 }\n`));
  const [, line = '', caret = ''] = (long ?? '').split('\n');
  expect(line.length).toBeLessThan(120);
  expect(line.slice(caret.indexOf('^'), caret.length)).toBe('oops');
});

test('columns and carets count characters, not code units', async () => {
  const [first] = await mistakes(machines('  a: { image: d, env: { X: "🦀é" }, oops: 1 }\n'));
  const [head, line = '', caret = ''] = (first ?? '').split('\n');
  expect(head).toContain(':3:36:');
  expect([...line].slice(caret.indexOf('^'), caret.length).join('')).toBe('oops');
});
