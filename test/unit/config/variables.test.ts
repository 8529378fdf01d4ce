// biome-ignore-all lint/suspicious/noTemplateCurlyInString: this is what is tested
import { expect, test } from 'vitest';
import { headlines, load, machine, machines, mistakes } from './support.ts';

const withX = (value: string) => machines(`  a: { image: d, env: { X: ${value} } }\n`);
const valueOfX = async (value: string, env: Record<string, string> = {}, dotEnv?: string) =>
  machine(await load(withX(value), env, dotEnv), 'a').env.X;

test.each([
  ['"${A}"', 'one'],
  ['"<${A}${A}>"', '<oneone>'],
  ['"${NONE:-fallback}"', 'fallback'],
  ['"${EMPTY:-fallback}"', 'fallback'],
  ['"${EMPTY}"', ''],
  ['"${A:-fallback}"', 'one'],
  ['"${A:?is needed}"', 'one'],
  ['"$${A} costs $5, $A"', '${A} costs $5, $A'],
  ['"$$$${A}"', '$${A}'],
  ['"${EVIL}"', '${A}: {a: [b'],
  ['"${NUMBER}"', '007'],
])('%s gives %s', async (written, expected) => {
  const env = { A: 'one', EMPTY: '', EVIL: '${A}: {a: [b', NUMBER: '007' };
  expect(await valueOfX(written, env)).toBe(expected);
});

test('where a number or a boolean is wanted, a value made of variables becomes one', async () => {
  const text = machines('  a:\n    image: d\n    replicas: ${N}\n    cpus: "0.${N}"\n');
  expect((await load(text, { N: '2' })).machines.map(({ cpus }) => cpus)).toEqual([0.2, 0.2]);
  expect(await headlines(machines('  a: { image: d, replicas: "2" }\n'))).toEqual([
    '3:28: `replicas` must be a whole number, not the text "2"',
  ]);
  expect(await headlines(text, { N: 'two' })).toEqual([
    '5:15: `replicas` must be a whole number, not the text "two"',
    '6:11: `cpus` must be a number, not the text "0.two"',
  ]);
  expect((await load('version: 1\nproject: ${N}\nmachines: { a: { image: d } }\n', { N: '2' })).name).toBe('2');
});

test('an unquoted variable between brackets is a syntax mistake that says what to do', async () => {
  const all = await mistakes(machines('  a: { image: ${BOX} }\n'), { BOX: 'd' });
  expect(all).toHaveLength(1);
  expect(all[0]).toContain('put ${…} into quotes');
});

test('each mistake is at its own column, also behind escapes and in a block of text', async () => {
  expect(await headlines(withX('"ok ${NONE} and ${B:?give B}, ${not ok} ${C:-${D}}"'))).toEqual([
    '3:32: the variable `NONE` is not set',
    '3:44: `B`: give B',
    '3:58: `${not ok}` is not understood',
    '3:68: `${C:-${D}` is not understood',
  ]);
  expect(await headlines(withX('"a\\tb ${NONE}"'))).toEqual(['3:34: the variable `NONE` is not set']);
  expect(await headlines(withX('"half ${OPEN"'))).toEqual(['3:34: this `${` is never closed']);
  const block =
    'version: 1\nmachines:\n  a:\n    image: d\n    env:\n      X: |\n        first\n        then ${NONE}\n';
  expect(await headlines(block)).toEqual(['8:14: the variable `NONE` is not set']);
});

test('keys are not replaced, and neither is the text of an inline script', async () => {
  expect(await headlines(machines('  "${A}": { image: d }\n'), { A: 'a' })).toHaveLength(1);
  const text = machines('  a: { image: d, provision: [{ shell: { inline: "echo ${A} $$", env: { A: "${A}" } } }] }\n');
  expect(machine(await load(text, { A: 'one' }), 'a').provision[0]).toMatchObject({
    script: { inline: 'echo ${A} $$' },
    env: { A: 'one' },
  });
});

test('.env gives what the environment does not', async () => {
  const dotEnv = [
    '# comment',
    'A=plain # comment',
    'export B = spaced out  ',
    "C='single # $x \\n'",
    'D="double \\"quoted\\" \\$x\\n" # comment',
    'E=',
    'F=a#b',
    '',
  ].join('\r\n');
  expect(await valueOfX('"${A}|${B}|${C}|${D}|${E}|${F}"', {}, dotEnv)).toBe(
    'plain|spaced out|single # $x \\n|double "quoted" $x\n||a#b',
  );
  expect(await valueOfX('"${A}"', { A: 'mine' }, dotEnv)).toBe('mine');
});

test('mistakes of .env have their place, do not show its secrets, and hide nothing in the Tsfile', async () => {
  expect(await mistakes(withX('"${NONE}"'), {}, 'A=1\nB="se\\cret\nC D\n')).toEqual([
    '.env:2:1: the " is never closed, or something stands behind its end',
    '.env:3:1: this line is not understood (write NAME=value)',
    expect.stringContaining('Tsfile.yaml:3:29: the variable `NONE` is not set'),
  ]);
});

test('NUL characters are refused wherever they come from', async () => {
  expect(await headlines(withX('"a\\0b"'))).toEqual(['3:28: a NUL character cannot be in a value']);
  expect(await headlines(withX('"${A}"'), { A: 'a\0b' })).toEqual(['3:28: a NUL character cannot be in a value']);
});
