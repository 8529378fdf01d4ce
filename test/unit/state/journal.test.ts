import { appendFileSync, existsSync, mkdirSync, statSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Journal, readJournal } from '../../../src/state/journal.ts';
import { projectPaths } from '../../../src/state/paths.ts';
import { projectFolder } from './fixtures.ts';

let folder: ReturnType<typeof projectFolder>;
let dir: string;
beforeEach(() => {
  folder = projectFolder();
  dir = folder.dir;
});
afterEach(() => folder.remove());

const code = (expected: string) => expect.objectContaining({ code: expected });

describe('the journal', () => {
  test('has one line per entry, in order, with the time', () => {
    const journal = Journal.open(dir);
    const up = journal.forCommand('up');
    up('machine.start a', 'start');
    up('machine.start a', 'failed', 'no memory');
    journal.close();
    const { entries, torn } = readJournal(dir);
    expect(torn).toBe(0);
    expect(entries.map(({ time: _, ...rest }) => rest)).toEqual([
      { command: 'up', step: 'machine.start a', phase: 'start' },
      { command: 'up', step: 'machine.start a', phase: 'failed', error: 'no memory' },
    ]);
    expect(entries.every(({ time }) => new Date(time).toISOString() === time)).toBe(true);
    expect(statSync(projectPaths(dir).journal).mode & 0o777).toBe(0o600);
  });

  test('that does not exist has no entries', () => {
    expect(readJournal(dir)).toEqual({ entries: [], torn: 0 });
  });

  test('loses only the line that a kill tore, also after more was appended', () => {
    const first = Journal.open(dir);
    first.append({ command: 'up', step: 'one', phase: 'done' });
    first.close();
    appendFileSync(projectPaths(dir).journal, '{"time":"2026-01-01T00:00:00.000Z","comm');
    expect(readJournal(dir)).toMatchObject({ entries: [{ step: 'one' }], torn: 1 });
    const second = Journal.open(dir);
    second.append({ command: 'up', step: 'two', phase: 'done' });
    second.close();
    expect(readJournal(dir)).toMatchObject({ entries: [{ step: 'one' }, { step: 'two' }], torn: 1 });
  });

  test('keeps at most two files of the limit, and the newest entries', () => {
    const journal = Journal.open(dir, 2000);
    for (let index = 0; index < 200; index++) journal.append({ command: 'up', step: `step ${index}`, phase: 'done' });
    journal.close();
    const { journal: file, journalOld } = projectPaths(dir);
    for (const path of [file, journalOld]) expect(statSync(path).size).toBeLessThanOrEqual(2000);
    const steps = readJournal(dir).entries.map(({ step }) => step);
    expect(steps).toEqual(Array.from({ length: steps.length }, (_, index) => `step ${200 - steps.length + index}`));
    expect(steps.length).toBeGreaterThan(20);
  });

  test('is not written through a symlink', () => {
    mkdirSync(projectPaths(dir).stateDir, { mode: 0o700 });
    symlinkSync(join(dir, 'target'), projectPaths(dir).journal);
    expect(() => Journal.open(dir)).toThrow(code('TSV_STATE_UNSAFE'));
    expect(existsSync(join(dir, 'target'))).toBe(false);
  });
});
