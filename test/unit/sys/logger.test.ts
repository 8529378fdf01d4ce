import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { pipe } from '../../../src/sys/fork.ts';
import { loggerCode, startLogger } from '../../../src/sys/logger.ts';
import { assemble, hasAssembler } from '../../support/assemble.ts';

test.skipIf(!hasAssembler)('the logger is what its source says (skipped where no assembler is installed)', () => {
  const source = join(import.meta.dirname, '..', '..', '..', 'src', 'sys', 'logger.s');
  expect(assemble(source)).toBe(loggerCode.toString('hex'));
});

describe('the logger', () => {
  test('appends all that comes, and ends with the last writer', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'tsv-logger-'));
    onTestFinished(() => rmSync(dir, { recursive: true }));
    const file = openSync(join(dir, 'log'), 'a');
    writeSync(file, 'before\n');
    const [reading, writing] = pipe();
    const { gone } = startLogger(reading, file, 'tsv:test');
    closeSync(reading);
    closeSync(file);
    const line = `${'x'.repeat(50_000)}\n`; // more than a pipe holds at once
    writeSync(writing, line);
    writeSync(writing, line);
    closeSync(writing);
    expect(await gone).toEqual({ code: 0 });
    expect(readFileSync(join(dir, 'log'), 'utf8')).toBe(`before\n${line}${line}`);
  });

  test('reads on when it cannot write: who prints is not held up by a full disk', async () => {
    const full = openSync('/dev/full', 'w');
    const [reading, writing] = pipe();
    const { gone } = startLogger(reading, full, 'tsv:test');
    closeSync(reading);
    closeSync(full);
    for (let i = 0; i < 4; i++) writeSync(writing, 'x'.repeat(60_000));
    closeSync(writing);
    expect(await gone).toEqual({ code: 0 });
  });
});
