import { appendFileSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { EventLog, EventReader } from '../../../src/state/events.ts';
import { projectPaths } from '../../../src/state/paths.ts';
import { projectFolder } from './fixtures.ts';

let folder: ReturnType<typeof projectFolder>;
let dir: string;
let log: EventLog;
let reader: EventReader | undefined;
beforeEach(() => {
  folder = projectFolder();
  dir = folder.dir;
  log = new EventLog(dir);
});
afterEach(() => {
  log.close();
  reader?.close();
  reader = undefined;
  folder.remove();
});

const open = (): EventReader => {
  reader = EventReader.open(dir);
  return reader;
};
const names = (from: EventReader): string[] => from.next().map(({ machine, event }) => `${machine} ${event.type}`);

describe('events of machines', () => {
  test('are none before there is a state, and come as they happen', () => {
    const opened = open();
    expect(names(opened)).toEqual([]);
    log.append('a', { type: 'created' });
    log.append('b', { type: 'started' });
    expect(names(opened)).toEqual(['a created', 'b started']);
    expect(names(opened)).toEqual([]);
    log.append('a', { type: 'ready' });
    expect(names(opened)).toEqual(['a ready']);
  });

  test('are each given once, over rotation', () => {
    const opened = open();
    const { stateDir } = projectPaths(dir);
    log.append('a', { type: 'created' });
    renameSync(join(stateDir, 'events.ndjson'), join(stateDir, 'events.old.ndjson'));
    log.close();
    log.append('b', { type: 'created' });
    expect(names(opened)).toEqual(['a created', 'b created']);
    expect(names(open())).toEqual(['a created', 'b created']);
  });

  test('are given when their line is whole; one that a kill tore is left out', () => {
    const { stateDir } = projectPaths(dir);
    mkdirSync(stateDir, { mode: 0o700 });
    const file = join(stateDir, 'events.ndjson');
    const line = JSON.stringify({ time: '2026-01-01T00:00:00.000Z', machine: 'grün', event: { type: 'ready' } });
    const bytes = Buffer.from(`${line}\n`);
    const middle = bytes.indexOf('ü') + 1;
    appendFileSync(file, bytes.subarray(0, middle), { mode: 0o600 });
    const opened = open();
    expect(names(opened)).toEqual([]);
    appendFileSync(file, bytes.subarray(middle));
    expect(names(opened)).toEqual(['grün ready']);
    appendFileSync(file, `{"time":\n${line}\n`);
    expect(names(opened)).toEqual(['grün ready']);
  });

  test('go on when the state folder was removed and made anew, the last one of before included', () => {
    log.append('a', { type: 'created' });
    const opened = open();
    expect(names(opened)).toEqual(['a created']);
    log.append('a', { type: 'destroyed' });
    log.close();
    rmSync(projectPaths(dir).stateDir, { recursive: true });
    log.append('a', { type: 'created' });
    expect(names(opened)).toEqual(['a destroyed', 'a created']);
  });
});
