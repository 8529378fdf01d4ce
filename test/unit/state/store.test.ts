import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { newState, parseState, readState, StateStore, writeState } from '../../../src/state/store.ts';
import { asWritten, fullState, machine, projectFolder } from './fixtures.ts';

let folder: ReturnType<typeof projectFolder>;
let dir: string;
let file: string;
beforeEach(() => {
  folder = projectFolder();
  dir = folder.dir;
  file = join(dir, '.ts-vm/state.json');
});
afterEach(() => folder.remove());

const code = (expected: string) => expect.objectContaining({ code: expected });
const names = () => readdirSync(join(dir, '.ts-vm')).toSorted();

describe('a state file', () => {
  test('that does not exist is no state', () => {
    expect(readState(dir)).toBeUndefined();
    mkdirSync(join(dir, '.ts-vm'));
    expect(readState(dir)).toBeUndefined();
  });

  test('comes back as it was written, one serial further, with every field', async () => {
    const state = fullState(dir);
    expect(await writeState(dir, state)).toEqual(asWritten(state, 1));
    expect(readState(dir)).toEqual(asWritten(state, 1));
    expect((await writeState(dir, asWritten(state, 1))).serial).toBe(2);
    expect(names()).toEqual(['state.json']);
  });

  test('is private to its user, and so is its folder', async () => {
    await writeState(dir, fullState(dir));
    expect(statSync(join(dir, '.ts-vm')).mode & 0o777).toBe(0o700);
    expect(statSync(file).mode & 0o777).toBe(0o600);
  });

  test('holds no script, argument or environment of a provisioning step', async () => {
    await writeState(dir, fullState(dir));
    expect(readFileSync(file, 'utf8')).not.toContain('secret');
  });

  test.each([
    ['empty', '', 'it is empty'],
    ['cut in the middle', '{"version": 1, "ser', 'it is not whole JSON'],
    ['garbage', '\0\0\0\0', 'it is not whole JSON'],
    ['a list', '[]', 'version: not a number'],
    ['without version', '{}', 'version: not a number'],
    ['of version 0', '{"version": 0}', 'version: 0 is none that any tsv wrote'],
  ])('that is %s is refused by name with what is wrong and what to do', async (_, text, why) => {
    await writeState(dir, fullState(dir));
    writeFileSync(file, text);
    expect(() => readState(dir)).toThrow(
      expect.objectContaining({
        code: 'TSV_STATE_CORRUPT',
        message: `${file} cannot be read`,
        details: [expect.stringContaining(why)],
        hint: expect.stringContaining('put a good copy of it back'),
      }),
    );
    expect(() => StateStore.open(dir)).toThrow(code('TSV_STATE_CORRUPT'));
    expect(readFileSync(file, 'utf8')).toBe(text);
  });

  test('cut at any length is refused', () => {
    const text = JSON.stringify(fullState(dir));
    for (let length = 0; length < text.length; length += 7) {
      expect(() => parseState(text.slice(0, length), file)).toThrow(code('TSV_STATE_CORRUPT'));
    }
  });

  test('of a newer tsv is refused with both versions', () => {
    expect(() => parseState('{"version": 2, "machines": "of another shape"}', file)).toThrow(
      expect.objectContaining({
        code: 'TSV_STATE_NEWER',
        details: ['its version is 2; this tsv knows versions up to 1'],
      }),
    );
  });

  const edited: readonly (readonly [string, (state: ReturnType<typeof asWritten>) => unknown])[] = [
    [
      'sandbox.holder.pid: not a whole number of 2 or more',
      (s) => ({ ...s, sandbox: { holder: { pid: -1, startTime: '1', bootId: 'b' }, rooted: true } }),
    ],
    [
      'sandbox.holder.pid: not a whole number of 2 or more',
      (s) => ({ ...s, sandbox: { holder: { pid: 1, startTime: '1', bootId: 'b' }, rooted: true } }),
    ],
    ['a key of machines: not a name (letters, digits, -)', (s) => ({ ...s, machines: { '../../etc': machine } })],
    [
      'a key of machines: not a name (letters, digits, -)',
      (s) => ({ ...s, machines: JSON.parse('{"__proto__": {}}') }),
    ],
    ['web: its spec is named db', (s) => ({ ...s, machines: { web: s.machines.db } })],
    ['machines.db.ready: neither true nor false', (s) => ({ ...s, machines: { db: { ...s.machines.db, ready: 1 } } })],
    ['machines.db.addresses: not a list', (s) => ({ ...s, machines: { db: { ...s.machines.db, addresses: {} } } })],
    [
      'networks.backend.spec.mode: not one of nat, isolated',
      (s) => ({ ...s, networks: { backend: { ...s.networks.backend, spec: { name: 'backend', mode: 'x' } } } }),
    ],
    ['projectId: not a project id', (s) => ({ ...s, projectId: '../x' })],
    ['serial: not a whole number of 0 or more', (s) => ({ ...s, serial: '1' })],
    ['machines: not a map', (s) => ({ ...s, machines: [] })],
  ];
  test.each(edited)('edited by hand is refused with the place: %s', (why, edit) => {
    expect(() => parseState(JSON.stringify(edit(asWritten(fullState(dir), 1))), file)).toThrow(
      expect.objectContaining({ code: 'TSV_STATE_CORRUPT', details: [why] }),
    );
  });

  test('that is absurdly large is refused without being read', async () => {
    await writeState(dir, fullState(dir));
    truncateSync(file, 2 ** 31);
    expect(() => readState(dir)).toThrow(code('TSV_STATE_CORRUPT'));
  });
});

describe('an unsafe state folder is refused for reading and writing, and what it points to stays untouched', () => {
  const refused = async () => {
    expect(() => readState(dir)).toThrow(code('TSV_STATE_UNSAFE'));
    await expect(writeState(dir, fullState(dir))).rejects.toThrow(code('TSV_STATE_UNSAFE'));
  };

  test('.ts-vm is a symlink', async () => {
    const elsewhere = join(dir, 'elsewhere');
    mkdirSync(elsewhere);
    symlinkSync(elsewhere, join(dir, '.ts-vm'));
    await refused();
    expect(readdirSync(elsewhere)).toEqual([]);
  });

  test('.ts-vm is a symlink to nowhere', async () => {
    symlinkSync(join(dir, 'nowhere'), join(dir, '.ts-vm'));
    await refused();
    expect(existsSync(join(dir, 'nowhere'))).toBe(false);
  });

  test('.ts-vm is a file', async () => {
    writeFileSync(join(dir, '.ts-vm'), 'x');
    await refused();
  });

  test('others may write to .ts-vm', async () => {
    mkdirSync(join(dir, '.ts-vm'));
    chmodSync(join(dir, '.ts-vm'), 0o777);
    await refused();
  });

  test('state.json is a symlink', async () => {
    await writeState(dir, fullState(dir));
    const target = join(dir, 'target.json');
    writeFileSync(target, readFileSync(file));
    unlinkSync(file);
    symlinkSync(target, file);
    const before = readFileSync(target, 'utf8');
    await refused();
    expect(readFileSync(target, 'utf8')).toBe(before);
  });

  test('state.json is a pipe: refused, not waited for', async () => {
    mkdirSync(join(dir, '.ts-vm'), { mode: 0o700 });
    execFileSync('mkfifo', [file]);
    await refused();
  });

  test('state.json is a folder', async () => {
    mkdirSync(file, { recursive: true, mode: 0o700 });
    await refused();
  });

  test.skipIf(process.getuid?.() !== 0)(
    '.ts-vm or state.json belongs to somebody else (only root can make that)',
    async () => {
      await writeState(dir, fullState(dir));
      execFileSync('chown', ['12345', file]);
      await refused();
      execFileSync('chown', ['0', file]);
      execFileSync('chown', ['12345', join(dir, '.ts-vm')]);
      await refused();
    },
  );
});

describe('StateStore', () => {
  test('applies changes in the order of the calls and shares writes', async () => {
    const store = StateStore.open(dir, () => newState(dir, ''));
    const writes = Array.from({ length: 50 }, (_, index) =>
      store.update((state) => ({ ...state, projectName: `${state.projectName}${index},` })),
    );
    expect(store.current.projectName).toBe(Array.from({ length: 50 }, (_, index) => `${index},`).join(''));
    await Promise.all(writes);
    expect(readState(dir)).toEqual(store.current);
    expect(store.current.serial).toBeLessThan(50);
  });

  test('does not write again what the file has already, neither in its own time nor in another one', async () => {
    const store = StateStore.open(dir);
    await store.update((state) => ({ ...state, projectName: 'one' }));
    const { ino } = statSync(file);
    await store.update((state) => ({ ...state, projectName: 'one' }));
    await StateStore.open(dir).update((state) => ({ ...state }));
    expect(statSync(file).ino).toBe(ino);
    await store.update((state) => ({ ...state, projectName: 'two' }));
    expect(readState(dir)).toMatchObject({ projectName: 'two', serial: 2 });
  });

  test('resolves an update only when a file with its change is there', async () => {
    const store = StateStore.open(dir);
    const first = store.update((state) => ({ ...state, projectName: 'one' })).then(() => readState(dir)?.projectName);
    const second = store
      .update((state) => ({ ...state, tsfileDigest: 'two' }))
      .then(() => readState(dir)?.tsfileDigest);
    const third = first.then(() => store.update((state) => ({ ...state, projectName: 'three' })));
    expect(await Promise.all([first, second])).toEqual(['one', 'two']);
    await third;
    expect(readState(dir)?.projectName).toBe('three');
  });

  test('a change that throws changes nothing and spoils nothing', async () => {
    const store = StateStore.open(dir);
    const before = store.current;
    await expect(
      store.update(() => {
        throw new Error('no');
      }),
    ).rejects.toThrow('no');
    expect(store.current).toBe(before);
    await store.update((state) => ({ ...state, projectName: 'x' }));
    expect(readState(dir)?.projectName).toBe('x');
  });

  test('a write that fails is told to its callers; the memory keeps the truth and the next write has it all', async () => {
    const store = StateStore.open(dir);
    await store.update((state) => ({ ...state, projectName: 'good' }));
    const good = readFileSync(file);
    rmSync(join(dir, '.ts-vm'), { recursive: true });
    writeFileSync(join(dir, '.ts-vm'), 'in the way');
    await expect(store.update((state) => ({ ...state, tsfileDigest: 'kept' }))).rejects.toThrow(
      code('TSV_STATE_UNSAFE'),
    );
    await store.settled();
    unlinkSync(join(dir, '.ts-vm'));
    mkdirSync(join(dir, '.ts-vm'), { mode: 0o700 });
    writeFileSync(file, good);
    await store.update((state) => ({ ...state, projectName: 'better' }));
    expect(readState(dir)).toMatchObject({ projectName: 'better', tsfileDigest: 'kept', serial: 2 });
  });

  test('continues from the file, keeps the project id and removes what a killed writer left', async () => {
    const first = await StateStore.open(dir).update((state) => ({ ...state, projectName: 'x' }));
    const leftover = join(dir, '.ts-vm/state.json.0123456789abcdef.tmp');
    const other = join(dir, '.ts-vm/state.json.backup');
    writeFileSync(leftover, '{');
    writeFileSync(other, '{');
    const store = StateStore.open(dir);
    expect(store.current).toEqual(first);
    expect(names()).toEqual(['state.json', 'state.json.backup']);
  });

  test('never gives two projects the same id', () => {
    const ids = Array.from({ length: 100 }, () => newState(dir).projectId);
    expect(new Set(ids).size).toBe(100);
  });
});
