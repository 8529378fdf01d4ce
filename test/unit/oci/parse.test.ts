import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { TsvError } from '../../../src/model/errors.ts';
import { defaultSpec } from '../../../src/oci/default-spec.ts';
import { readBundle, readProcess } from '../../../src/oci/parse.ts';

let folder: string;

beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'tsv-bundle-')));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const spec = defaultSpec({ rootless: false });

function bundle(config: unknown = spec): string {
  writeFileSync(join(folder, 'config.json'), typeof config === 'string' ? config : JSON.stringify(config));
  mkdirSync(join(folder, 'rootfs'), { recursive: true });
  return folder;
}

function refusal(read: () => unknown): [message: string, ...details: string[]] {
  try {
    read();
  } catch (error) {
    if (!(error instanceof TsvError) || error.code !== 'TSV_BUNDLE') throw error;
    return [error.message.replaceAll(folder, 'BUNDLE'), ...error.details];
  }
  throw new Error('nothing was refused');
}

describe('a bundle', () => {
  test('is read as it is written', () => {
    expect(readBundle(bundle())).toEqual({ config: spec, folder, warnings: [] });
  });

  test('is found through symbolic links, and its folder is the real one', () => {
    bundle();
    symlinkSync('.', join(folder, 'link'));
    expect(readBundle(join(folder, 'link', 'link')).folder).toBe(folder);
  });

  test('may have its root file system elsewhere', () => {
    const elsewhere = { ...spec, root: { path: tmpdir() } };
    expect(readBundle(bundle(elsewhere)).config.root?.path).toBe(tmpdir());
  });

  test('says what of it is passed over', () => {
    const { warnings } = readBundle(bundle({ ...spec, linux: { ...spec.linux, intelRdt: {} } }));
    expect(warnings).toEqual(['linux.intelRdt: passed over: it is not supported']);
  });
});

describe('refused is a bundle', () => {
  test('that is not there', () => {
    expect(refusal(() => readBundle(join(folder, 'x')))).toEqual([
      'bundle BUNDLE/x cannot be read',
      'it does not exist',
    ]);
  });

  test('that is no folder', () => {
    bundle();
    expect(refusal(() => readBundle(join(folder, 'config.json')))).toEqual([
      'bundle BUNDLE/config.json is not a folder',
    ]);
  });

  test('without a config.json', () => {
    expect(refusal(() => readBundle(folder))).toEqual([
      'config.json of bundle BUNDLE cannot be read',
      'it does not exist',
    ]);
  });

  test('whose config.json is a folder, or a FIFO that nobody writes to', () => {
    const config = join(folder, 'config.json');
    mkdirSync(config);
    expect(refusal(() => readBundle(folder))).toEqual(['config.json of bundle BUNDLE is not a regular file']);
    rmSync(config, { recursive: true });
    execFileSync('mkfifo', [config]);
    expect(refusal(() => readBundle(folder))).toEqual(['config.json of bundle BUNDLE is not a regular file']);
  });

  test('whose config.json is huge', () => {
    bundle();
    truncateSync(join(folder, 'config.json'), 16 * 1024 * 1024 + 1);
    expect(refusal(() => readBundle(folder))).toEqual(['config.json of bundle BUNDLE is larger than 16 MiB']);
  });

  test.each([
    ['', '1:1: the text ends, a value is missing'],
    ['{\n  "ociVersion": "1.2.0"\n  "root": {}\n}', '3:3: "\\"" where a comma or } should be'],
  ])('whose config.json is not JSON: %j', (text, line) => {
    expect(refusal(() => readBundle(bundle(text)))).toEqual(['config.json of bundle BUNDLE is not JSON', line]);
  });

  test('whose config.json is not valid, with every problem', () => {
    const wrong = { ...spec, hostname: 5, process: { ...spec.process, cwd: 'x' } };
    expect(refusal(() => readBundle(bundle(wrong)))).toEqual([
      'config.json of bundle BUNDLE is not valid',
      'process.cwd: must be an absolute path, not "x"',
      'hostname: must be a text, not 5',
    ]);
  });

  test.each([
    ['nowhere', 'root.path: "nowhere" cannot be used: it does not exist'],
    ['config.json', 'root.path: "config.json" is not a folder'],
    ['config.json/x', 'root.path: "config.json/x" cannot be used: a part of the path is not a folder'],
  ])('whose root file system is %s', (path, line) => {
    expect(refusal(() => readBundle(bundle({ ...spec, root: { path } })))).toEqual([
      'config.json of bundle BUNDLE is not valid',
      line,
    ]);
  });
});

describe('a process.json', () => {
  const read = (content: unknown) => {
    const file = join(folder, 'process.json');
    writeFileSync(file, JSON.stringify(content));
    return readProcess(file);
  };

  test('is read as it is written', () => {
    expect(read(spec.process)).toEqual({ process: spec.process, warnings: [] });
  });

  test('has its problems named with their paths', () => {
    expect(refusal(() => read({ ...spec.process, args: [] }))).toEqual([
      'BUNDLE/process.json is not valid',
      'args: must not be empty',
    ]);
  });
});
