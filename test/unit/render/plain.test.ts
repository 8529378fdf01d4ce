import { describe, expect, test } from 'vitest';
import { createProgress, progressMode } from '../../../src/cli/render/progress.ts';
import type { Terminal } from '../../../src/cli/render/terminal.ts';
import { TsvError } from '../../../src/model/errors.ts';
import type { TsvEvent } from '../../../src/model/events.ts';
import {
  ascii,
  coloured,
  end,
  fail,
  output,
  pipe,
  plan,
  planOf,
  progress,
  Sink,
  screenOf,
  small,
  start,
  visible,
} from './support.ts';

async function plain(events: readonly TsvEvent[], terminal: Terminal = pipe): Promise<string> {
  const stream = new Sink();
  const shown = createProgress({ mode: 'plain', stream, terminal, now: () => Date.parse('2024-05-01T10:00:30Z') });
  for (const event of events) shown.emit(event);
  await shown.done();
  return stream.text;
}

const run: readonly TsvEvent[] = [
  { type: 'waiting', forCommand: 'destroy', pid: 4711, since: '2024-05-01T10:00:18Z' },
  plan(small),
  start(1),
  start(3),
  end(1, 420),
  start(2),
  end(2, 90),
  progress(3, 'base system: 1/136 packages'),
  progress(3, 'base system: 2/136 packages'),
  progress(3, 'writing'),
  end(3, 22_000),
  start(4),
  end(4, 30),
  start(7),
  { type: 'notice', machine: 'web', text: 'no hardware acceleration' },
  output('web', 'Setting up \x1b[32mnginx\x1b[0m\x1b[2J'),
  { type: 'warning', text: 'the journal cannot be written' },
  fail(7, "web: step 'nginx' failed with exit code 1"),
  { ...end(9, 0, 'skipped') },
  { ...end(10, 0, 'skipped') },
];

describe('plain output', () => {
  test('is one line per event, prefixed and aligned', async () => {
    expect(await plain(run)).toBe(`waiting for tsv destroy (process 4711, running for 12s)
network        set up the sandbox …
box debian-12  prepare for containers …
network        sandbox set up in 0.4s
network        set up default …
network        default set up in 0.1s
box debian-12  base system: 1/136 packages
box debian-12  writing
box debian-12  ready for containers in 22s
web            create …
web            created in 0.0s
web            provision nginx …
web            no hardware acceleration
web            | Setting up nginx
warning: the journal cannot be written
web            ✘ provision nginx: step 'nginx' failed with exit code 1
lb             – start skipped
`);
  });

  test('is ASCII where the locale is', async () => {
    const text = await plain(run, ascii);
    expect(text).toMatch(/^[\n -~]*$/);
    expect(text).toContain('web            x provision nginx: ');
  });

  test('has a colour per machine, and keeps the colours of output', async () => {
    const text = visible(await plain([plan(small), start(4), output('web', '\x1b[32mgreen\x1b[2J')], coloured));
    expect(text).toBe(`<34>web          <39>  create …
<34>web          <39>  <2>|<22> <32>green<0>
`);
  });

  test('repeats a count only every ten seconds', async () => {
    const stream = new Sink();
    let now = 0;
    const shown = createProgress({ mode: 'plain', stream, terminal: pipe, now: () => now });
    shown.emit(plan(planOf({ do: 'box.ensure', box: 'x', kind: 'vm' })));
    for (const second of [0, 4, 9, 10, 11]) {
      now = second * 1000;
      shown.emit(progress(1, `${second}/20`));
    }
    expect(stream.lines()).toEqual(['box x  0/20', 'box x  10/20']);
  });

  test('has nothing to say about a step that no plan announced', async () => {
    expect(await plain([start(9), progress(9, 'x'), end(9)])).toBe('');
  });

  test('goes on with the next plan', async () => {
    const second = planOf({ do: 'machine.stop', machine: 'a-long-name' });
    expect(await plain([plan(planOf({ do: 'machine.stop', machine: 'a' })), start(1), plan(second), start(1)])).toBe(
      'a  stop …\na-long-name  stop …\n',
    );
  });
});

test('quiet output holds warnings only', async () => {
  const stream = new Sink();
  const shown = createProgress({ mode: 'quiet', stream, terminal: pipe });
  for (const event of run) shown.emit(event);
  shown.emit({ type: 'warning', machine: 'db', text: 'slow' });
  await shown.done();
  expect(stream.text).toBe('warning: the journal cannot be written\ndb: warning: slow\n');
});

describe('JSON output', () => {
  async function json(events: readonly TsvEvent[], error?: unknown): Promise<string[]> {
    const stream = new Sink();
    const shown = createProgress({ mode: 'json', stream, terminal: pipe });
    for (const event of events) shown.emit(event);
    await shown.done(error);
    return stream.lines();
  }

  test('is the events, one per line, and the end', async () => {
    const lines = await json(run);
    expect(lines.slice(0, -1).map((line) => JSON.parse(line))).toEqual(run);
    expect(lines.at(-1)).toBe('{"type":"end","ok":true}');
  });

  test('ends with the error', async () => {
    const error = new TsvError('TSV_PORT_TAKEN', 'port 80 is in use', { hint: 'take another' });
    expect(await json([], error)).toEqual([
      '{"type":"end","ok":false,"error":{"code":"TSV_PORT_TAKEN","message":"port 80 is in use","hint":"take another","exitCode":1}}',
    ]);
    expect(JSON.parse((await json([], new TypeError('oops')))[0] ?? '')).toMatchObject({
      error: { code: 'TSV_INTERNAL', message: 'oops' },
    });
  });

  test('can do nothing to a terminal and is not split by any reader', async () => {
    const [line = ''] = await json([output('web', '\x1b[2J\x9b2J\u2028\x7f')]);
    expect(line).not.toMatch(/[\p{Cc}\u2028]/u);
    expect(JSON.parse(line)).toMatchObject({ text: '\x1b[2J\x9b2J\u2028\x7f' });
  });
});

test('the mode fits the output', () => {
  const tty = screenOf(80, 24);
  expect(progressMode(tty)).toBe('tree');
  expect(progressMode(tty, { json: true, quiet: true })).toBe('json');
  expect(progressMode(tty, { quiet: true })).toBe('quiet');
  expect(progressMode(tty, { ci: true })).toBe('plain');
  expect(progressMode({ ...tty, cursor: false })).toBe('plain');
  expect(progressMode(pipe)).toBe('plain');
});

test('a tree on a dumb terminal is plain', async () => {
  const stream = new Sink();
  const shown = createProgress({ mode: 'tree', stream, terminal: { ...pipe, isTTY: true } });
  shown.emit(plan(small));
  shown.emit(start(4));
  await shown.done();
  expect(stream.text).toBe('web            create …\n');
});
