import { mkdirSync, mkdtempSync, realpathSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  findProjectDir,
  forwardText,
  noteOf,
  packageDir,
  readTsfileNote,
  tsfileStamp,
} from '../../../src/app/place.ts';
import type { Project } from '../../../src/model/project.ts';
import { projectPaths } from '../../../src/state/paths.ts';

let folder: string;
beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'place-')));
  write('Tsfile.yaml', 'version: 1\n');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const write = (name: string, text: string): void => {
  mkdirSync(join(folder, name, '..'), { recursive: true });
  writeFileSync(join(folder, name), text);
};
const find = (cwd: string, file?: string) =>
  findProjectDir({ cwd: join(folder, cwd), env: {}, ...(file === undefined ? {} : { file }) });

describe("a project's folder", () => {
  test('is the nearest one upwards with a Tsfile, under either name', () => {
    write('a/b/c/x', '');
    write('a/Tsfile.yml', '');
    expect(find('a/b/c')).toBe(join(folder, 'a'));
    expect(find('.')).toBe(folder);
    rmSync(join(folder, 'a/Tsfile.yml'));
    expect(find('a/b/c')).toBe(folder);
  });

  test('is one with a state, when its Tsfile is lost', () => {
    write('a/.ts-vm/state.json', '{}');
    write('a/b/x', '');
    expect(find('a/b')).toBe(join(folder, 'a'));
  });

  test('is that of --file, from where the command was given', () => {
    write('other/b/x', '');
    expect(find('other/b', '../mine.yaml')).toBe(join(folder, 'other'));
    expect(find('other', join(folder, 'Tsfile.yaml'))).toBe(folder);
  });

  test('is not there: the error says where it was looked for, and what to do', () => {
    rmSync(join(folder, 'Tsfile.yaml'));
    expect(() => find('.')).toThrow(
      expect.objectContaining({ code: 'TSV_NO_TSFILE', details: [`looked from ${folder}`], hint: 'tsv init' }),
    );
  });
});

describe('the stamp of a Tsfile', () => {
  const changes: readonly (readonly [string, () => void])[] = [
    ['it grows', () => write('Tsfile.yaml', 'version: 1\nmachines: {}\n')],
    [
      'it is written again with other text of the same length',
      () => {
        write('Tsfile.yaml', 'version: 2\n');
        utimesSync(join(folder, 'Tsfile.yaml'), 1, 1);
      },
    ],
    [
      'it is replaced, size and time being the same',
      () => {
        utimesSync(join(folder, 'Tsfile.yaml'), 5, 5);
        const before = tsfileStamp(folder);
        write('new', 'version: 3\n');
        utimesSync(join(folder, 'new'), 5, 5);
        renameSync(join(folder, 'new'), join(folder, 'Tsfile.yaml'));
        expect(tsfileStamp(folder)).not.toBe(before);
      },
    ],
    ['it goes', () => rmSync(join(folder, 'Tsfile.yaml'))],
    ['its .env comes', () => write('.env', 'A=b\n')],
    ['a Tsfile.yml comes', () => write('Tsfile.yml', '')],
  ];
  test.each(changes)('changes when %s', (_, change) => {
    const before = tsfileStamp(folder);
    change();
    expect(tsfileStamp(folder)).not.toBe(before);
  });

  test('stays while nothing changes', () => {
    write('.env', 'A=b\n');
    const before = tsfileStamp(folder);
    write('something-else', '');
    expect(tsfileStamp(folder)).toBe(before);
  });
});

describe('the note of a Tsfile', () => {
  const project = (): Project =>
    ({
      name: 'shop',
      dir: folder,
      machines: [
        {
          name: 'web',
          kind: 'container',
          forwards: [{ hostAddress: '127.0.0.1', hostPort: 8080, guestPort: 80 }],
          provision: [
            { name: 'install', run: 'once' },
            { name: 'debug', run: 'never' },
          ],
        },
      ],
    }) as unknown as Project;
  const keep = (text = JSON.stringify(noteOf(project()))) => {
    mkdirSync(join(folder, '.ts-vm'), { recursive: true });
    writeFileSync(projectPaths(folder).tsfileNote, text);
  };

  test('holds what status shows, without the steps that up never runs', () => {
    keep();
    expect(readTsfileNote(folder)).toEqual({
      stamp: tsfileStamp(folder),
      project: 'shop',
      machines: [{ name: 'web', kind: 'container', forwards: ['127.0.0.1:8080->80'], steps: ['install'] }],
    });
  });

  test('counts only while the files are as they were', () => {
    keep();
    write('.env', 'NEW=1\n');
    expect(readTsfileNote(folder)).toBeUndefined();
    keep();
    expect(readTsfileNote(folder)).toBeDefined();
  });

  test.each(['', '{"stamp":', 'null', '[]', '{}'])('that is torn or something else counts as none: %j', (text) => {
    keep(text);
    expect(readTsfileNote(folder)).toBeUndefined();
  });

  test('that is not there counts as none', () => {
    expect(readTsfileNote(folder)).toBeUndefined();
  });
});

test('a forward is written as address, port and the port inside', () => {
  expect(forwardText({ hostAddress: '0.0.0.0', hostPort: 80, guestPort: 8080 })).toBe('0.0.0.0:80->8080');
});

describe('the installed package', () => {
  test('is the nearest folder upwards with recipes', () => {
    write('package/boxes/debian-12/box.yaml', '');
    write('package/dist/agent.cjs', '');
    expect(packageDir(join(folder, 'package/dist/parts'))).toBe(join(folder, 'package'));
  });

  test('of which only a part is there is an error', () => {
    expect(() => packageDir(folder)).toThrow(
      expect.objectContaining({ code: 'TSV_INTERNAL', message: 'this installation of tsv is incomplete' }),
    );
  });
});
