import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { listTemplates, loadProject, writeTemplate } from '../../../src/config/index.ts';
import { TsvError } from '../../../src/model/errors.ts';
import { boxes, folder, root } from './support.ts';

const templates = join(root, 'templates/init');

function thrownBy(action: () => unknown): TsvError {
  try {
    action();
  } catch (error) {
    if (error instanceof TsvError) return error;
    throw error;
  }
  throw new Error('this was expected to fail');
}

test('the templates are listed with a description each, the default first', () => {
  const listed = listTemplates(templates);
  expect(listed.map(({ name }) => name)).toEqual(['default', 'dev-env', 'load-balancer', 'vm']);
  for (const { description } of listed) expect(description).toMatch(/^.{20,90}$/);
});

describe.each(listTemplates(templates).map(({ name }) => name))('template %s', (name) => {
  test('loads without a mistake where it is written, named after the folder', async () => {
    const target = join(folder(), 'My Shop');
    const written = writeTemplate(templates, name, target);
    const project = await loadProject(target, { env: {}, boxes });
    expect(project.name).toBe('my-shop');
    expect(project.machines.length).toBeGreaterThan(0);
    expect(written).toContain('.gitignore');
    expect(written).not.toContain('template.yaml');
  });

  test('is commented and copies scripts executable', () => {
    const target = folder();
    const written = writeTemplate(templates, name, target);
    expect(readFileSync(join(target, 'Tsfile.yaml'), 'utf8')).toMatch(/^# /);
    for (const file of written.filter((path) => path.endsWith('.sh')))
      expect(statSync(join(target, file)).mode & 0o111).toBe(0o111);
  });
});

test('the commented-out parts of the default template are valid too', async () => {
  const target = folder({ placeholder: '' });
  writeTemplate(templates, 'default', target);
  mkdirSync(join(target, 'conf'));
  mkdirSync(join(target, 'provisioning'));
  writeFileSync(join(target, 'conf/db.conf'), '');
  writeFileSync(join(target, 'provisioning/db.sh'), '');
  const file = join(target, 'Tsfile.yaml');
  // Everything but prose is switched on, except what excludes another option.
  const text = readFileSync(file, 'utf8').replace(
    /^( *)# (?=( *)(networks:|default:|backend:|forwards:|share:|- |env:|depends_on:|command:|healthcheck:|exec:|every:|db:|box: |memory:|disks:|provision:|run:))/gm,
    '$1',
  );
  expect(text.split('\n').filter((line) => /^ *#/.test(line)).length).toBeLessThan(8);
  writeFileSync(file, text);
  const project = await loadProject(target, { env: {}, boxes });
  expect(project.machines.map(({ name, kind }) => `${name} ${kind}`)).toEqual(['app container', 'db vm']);
});

test('nothing is written when one of the files is there already', () => {
  const target = folder({ 'Tsfile.yaml': 'mine' });
  const error = thrownBy(() => writeTemplate(templates, 'load-balancer', target));
  expect(error).toMatchObject({ code: 'TSV_EXISTS', message: expect.stringContaining('Tsfile.yaml is already in') });
  expect(readdirSync(target)).toEqual(['Tsfile.yaml']);
  expect(readFileSync(join(target, 'Tsfile.yaml'), 'utf8')).toBe('mine');
  expect(thrownBy(() => writeTemplate(templates, 'vm', folder({ 'Tsfile.yml': '' }))).code).toBe('TSV_EXISTS');
});

test.each([
  ['', '.ts-vm/\n'],
  ['dist', 'dist\n.ts-vm/\n'],
  ['dist\n', 'dist\n.ts-vm/\n'],
  ['/.ts-vm\nx', '/.ts-vm\nx'],
  ['.ts-vm/\n', '.ts-vm/\n'],
])('.gitignore %j becomes %j', (before, after) => {
  const target = folder({ '.gitignore': before });
  writeTemplate(templates, 'default', target);
  expect(readFileSync(join(target, '.gitignore'), 'utf8')).toBe(after);
});

test('an unknown template is a usage error with the nearest name', () => {
  expect(thrownBy(() => writeTemplate(templates, 'load-balancr', folder()))).toMatchObject({
    code: 'TSV_USAGE',
    hint: 'did you mean `load-balancer`?',
  });
});
