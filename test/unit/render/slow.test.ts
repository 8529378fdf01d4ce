import { describe, expect, test } from 'vitest';
import { createProgress, type ProgressMode } from '../../../src/cli/render/progress.ts';
import { Emulator, end, output, pipe, plan, planOf, Sink, screenOf, start } from './support.ts';

const one = planOf({ do: 'machine.provision', machine: 'web', step: 'x' });

describe('a reader that does not keep up', () => {
  test('loses output beyond a bound, is told how much, and gets everything else', async () => {
    const stream = new Sink();
    stream.stall();
    const shown = createProgress({ mode: 'plain', stream, terminal: pipe });
    shown.emit(plan(one));
    shown.emit(start(1));
    for (let line = 0; line < 100_000; line += 1) shown.emit(output('web', `line ${line}`));
    shown.emit(end(1));
    expect(stream.writableLength).toBeLessThan(4096);
    stream.resume();
    await shown.done();
    const lines = stream.lines();
    const kept = lines.filter((line) => line.startsWith('web  | line ')).length;
    expect(kept).toBeLessThan(2000);
    expect(lines.at(-2)).toBe(`web  … ${100_000 - kept} lines of web not shown`);
    expect(lines.at(-1)).toBe('web  provisioned x in 0.4s');
    expect(lines.slice(1, kept + 1)).toEqual(Array.from({ length: kept }, (_, line) => `web  | line ${line}`));
  });

  test('is bounded in bytes, too', async () => {
    const stream = new Sink();
    stream.stall();
    const shown = createProgress({ mode: 'json', stream, terminal: pipe });
    for (let line = 0; line < 900; line += 1) shown.emit(output('web', 'x'.repeat(8192)));
    stream.resume();
    await shown.done();
    expect(stream.text.length).toBeLessThan(1_100_000);
    expect(stream.lines().at(-2)).toMatch(/^\{"type":"notice","machine":"web","text":"\d+ lines of web not shown"\}$/);
  });

  test('is waited for at the end', async () => {
    const stream = new Sink();
    stream.stall();
    const shown = createProgress({ mode: 'json', stream, terminal: pipe });
    shown.emit(output('web', 'x'.repeat(2000)));
    let over = false;
    const done = shown.done().then(() => {
      over = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(over).toBe(false);
    stream.resume();
    await done;
    expect(stream.lines().at(-1)).toBe('{"type":"end","ok":true}');
  });

  test('of the tree gets fewer pictures, bounded lines, and the last picture', async () => {
    const stream = new Emulator(40, 10);
    const shown = createProgress({ mode: 'tree', stream, terminal: screenOf(40, 10) });
    stream.stall();
    for (let line = 0; line < 5000; line += 1) shown.emit({ type: 'notice', text: `notice ${line}` });
    shown.emit(plan(one));
    shown.emit(start(1));
    expect(stream.writableLength).toBeLessThan(4096);
    stream.resume();
    shown.emit(end(1));
    await shown.done();
    expect(stream.everything.length).toBeLessThan(700);
    expect(stream.everything.join('\n')).toMatch(/… \d+ lines not shown/);
    expect(stream.everything.at(-1)).toMatch(/^✔ web {2}provisioned {2}/);
  });
});

test.each<ProgressMode>(['tree', 'plain', 'json', 'quiet'])(
  'a reader that went away ends %s output quietly',
  async (mode) => {
    const stream = new Sink({ columns: 80, rows: 24 });
    const shown = createProgress({ mode, stream, terminal: screenOf(80, 24) });
    shown.emit(plan(one));
    stream.stall();
    shown.emit({ type: 'warning', text: 'x'.repeat(3000) });
    stream.destroy(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
    for (let line = 0; line < 10; line += 1) shown.emit(output('web', 'more'));
    shown.emit(start(1));
    shown.emit(end(1));
    await shown.done();
    expect(stream.text).not.toContain('more');
  },
);
