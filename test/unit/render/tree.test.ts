import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Board } from '../../../src/cli/render/board.ts';
import { finalFrame, liveFrame } from '../../../src/cli/render/frame.ts';
import { createProgress, type Progress } from '../../../src/cli/render/progress.ts';
import { displayWidth } from '../../../src/cli/render/text.ts';
import { TsvError } from '../../../src/model/errors.ts';
import type { TsvEvent } from '../../../src/model/events.ts';
import type { Action } from '../../../src/model/plan.ts';
import {
  ascii,
  coloured,
  Emulator,
  end,
  fail,
  output,
  pipe,
  plan,
  planOf,
  progress,
  screenOf,
  small,
  start,
  visible,
} from './support.ts';

/** The board after these events, one second apart. */
function boardAfter(events: readonly TsvEvent[], of = small): { board: Board; now: number } {
  const board = new Board(of);
  let now = 0;
  for (const event of events) {
    board.apply(event, now);
    now += 1000;
  }
  return { board, now };
}

function frame(events: readonly TsvEvent[], size = { columns: 60, rows: 24 }, look = pipe, of = small): string[] {
  const { board, now } = boardAfter(events, of);
  return liveFrame(board.rows(now), size, look, 0);
}

const networkDone = [start(1), end(1), start(2), end(2)];
const upToProvision = [
  ...networkDone,
  start(3),
  end(3),
  start(4),
  end(4),
  start(5),
  end(5),
  start(6),
  end(6),
  start(7),
];

describe('the live picture', () => {
  test('says what everything does or waits for', () => {
    expect(frame([...networkDone, start(3), progress(3, 'base system: 42/136 packages')])).toEqual([
      '✔ network        ready  2.0s',
      '⠋ box debian-12  preparing for containers: base syst…  2.0s',
      '· web            waiting for box debian-12',
      '· lb             waiting for box debian-12',
    ]);
  });

  test('shows the last lines of output below a machine that runs, without colours or harm', () => {
    const lines = ['one', 'two', '\x1b[31mthree\x1b[2J', 'four'].map((text) => output('web', text));
    expect(frame([...upToProvision, ...lines])).toEqual([
      '✔ network        ready  2.0s',
      '✔ box debian-12  ready  1.0s',
      '⠋ web            provisioning nginx  8.0s',
      '    two',
      '    three',
      '    four',
      '· lb             waiting',
    ]);
  });

  test('forgets the output of a step when the next one begins', () => {
    const { board } = boardAfter([start(4), output('web', 'old'), end(4), start(5)]);
    expect(board.rows(0).find(({ name }) => name === 'web')?.tail).toEqual([]);
  });

  test('names what a machine waits for between two of its steps', () => {
    const lines = frame([...networkDone, start(3), end(3), start(8), end(8), start(4)]);
    expect(lines.at(-1)).toBe('· lb             waiting for web  1.0s');
  });

  test('has colours', () => {
    expect(frame([...networkDone, start(3)], undefined, coloured).map(visible)).toEqual([
      '<32>✔<39> network        ready  <2>2.0s<22>',
      '<36>⠋<39> box debian-12  preparing for containers  <2>1.0s<22>',
      '<2>·<22> <2>web          <22>  <2>waiting for box debian-12<22>',
      '<2>·<22> <2>lb           <22>  <2>waiting for box debian-12<22>',
    ]);
  });

  test('is ASCII where the locale is', () => {
    const lines = frame([...networkDone, start(3)], { columns: 34, rows: 24 }, ascii);
    expect(lines).toEqual([
      '+ network      ready  2.0s',
      '| box debi...  preparing...  1.0s',
      '. web          waiting for box...',
      '. lb           waiting for box...',
    ]);
  });

  const fifty = planOf(
    ...Array.from({ length: 50 }, (_, index) => ({ do: 'machine.start', machine: `web-${index + 1}` }) as const),
  );

  test('of fifty machines shows what runs and what failed, and counts the others', () => {
    const events = [
      ...Array.from({ length: 20 }, (_, index) => [start(index + 1), end(index + 1)]).flat(),
      ...[30, 31, 40, 41].map(start),
      output('web-40', 'out of memory'),
      fail(40, 'web-40: QEMU could not be started'),
    ];
    expect(frame(events, { columns: 60, rows: 10 }, pipe, fifty)).toEqual([
      '⠋ web-30  starting  6.0s',
      '⠋ web-31  starting  5.0s',
      '✘ web-40  QEMU could not be started  3.0s',
      '    out of memory',
      '⠋ web-41  starting  3.0s',
      '  20 done, 26 waiting',
    ]);
  });

  test('never is as high or as wide as the terminal', () => {
    const busy = [
      ...Array.from({ length: 50 }, (_, index) => start(index + 1)),
      ...Array.from({ length: 50 }, (_, index) => output(`web-${index + 1}`, `漢字 ${'x'.repeat(300)}`)),
      ...[3, 20].map((id) => fail(id, 'x'.repeat(200))),
    ];
    for (const rows of [1, 2, 3, 5, 24, 51, 60, 200]) {
      for (const columns of [10, 20, 80, 200]) {
        const lines = frame(busy, { columns, rows }, coloured, fifty);
        expect(lines.length).toBeLessThanOrEqual(Math.max(1, rows - 1));
        expect(Math.max(...lines.map(displayWidth))).toBeLessThan(columns);
      }
    }
    expect(frame(busy, { columns: 60, rows: 5 }, pipe, fifty)).toEqual([
      expect.stringMatching(/^⠋ web-1 {2}/),
      expect.stringMatching(/^✘ web-3 {2}/),
      expect.stringMatching(/^✘ web-20 /),
      '  47 more running',
    ]);
  });
});

describe('the last picture', () => {
  const broken = [
    ...upToProvision,
    start(8),
    end(8),
    ...Array.from({ length: 30 }, (_, line) => output('web', `line ${line}`)),
    fail(7, "web: step 'nginx' failed"),
    end(9, 0, 'skipped'),
    end(10, 0, 'skipped'),
  ];

  test('has the last twenty lines of what failed', () => {
    const { board, now } = boardAfter(broken);
    expect(finalFrame(board.rows(now), 60, pipe, () => false)).toEqual([
      '✔ network        ready  2.0s',
      '✔ box debian-12  ready  1.0s',
      "✘ web            step 'nginx' failed  36s",
      ...Array.from({ length: 20 }, (_, line) => `    line ${line + 10}`),
      '– lb             skipped',
    ]);
  });

  test('leaves out lines that the error repeats', () => {
    const { board, now } = boardAfter(broken);
    expect(finalFrame(board.rows(now), 60, pipe, () => true)).toHaveLength(4);
  });

  test('says what was left behind', () => {
    const { board, now } = boardAfter([...networkDone, start(3)]);
    expect(finalFrame(board.rows(now), 60, pipe, () => false)).toEqual([
      '✔ network        ready  2.0s',
      '– box debian-12  interrupted: preparing for containe…  1.0s',
      '– web            not begun',
      '– lb             not begun',
    ]);
  });

  test.each([
    [['create'], 'created'],
    [['create', 'start', 'wait'], 'ready'],
    [['start', 'wait', 'provision'], 'ready'],
    [['start', 'wait', 'healthy'], 'healthy'],
    [['provision'], 'provisioned'],
    [['stop'], 'stopped'],
    [['stop', 'destroy'], 'destroyed'],
    [['destroy', 'create', 'start', 'wait'], 'ready'],
  ] as const)('calls a machine after %s %s', (verbs, word) => {
    const steps = planOf(
      ...verbs.map(
        (verb): Action =>
          verb === 'provision'
            ? { do: 'machine.provision', machine: 'm', step: 's' }
            : { do: `machine.${verb}`, machine: 'm' },
      ),
    );
    const { board } = boardAfter(
      steps.nodes.flatMap(({ id }) => [start(id), end(id)]),
      steps,
    );
    expect(board.rows(0)[0]?.text).toBe(word);
  });
});

describe('on a terminal', () => {
  let now = 0;
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    now = 0;
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  async function open(columns: number, rows: number): Promise<{ screen: Emulator; shown: Progress; tick(): void }> {
    await import('listr2');
    const screen = new Emulator(columns, rows);
    const shown = createProgress({ mode: 'tree', stream: screen, terminal: screenOf(columns, rows), now: () => now });
    return { screen, shown, tick: () => vi.advanceTimersByTime(100) };
  }
  /** Until the picture of a plan is up. */
  const drawn = async (screen: Emulator): Promise<void> => {
    while (screen.listenerCount('resize') === 0) await new Promise((resolve) => setImmediate(resolve));
  };
  /** Until everything of a plan is over. */
  const over = async (screen: Emulator): Promise<void> => {
    while (screen.listenerCount('resize') > 0) await new Promise((resolve) => setImmediate(resolve));
  };
  const emitAll = (shown: Progress, events: readonly TsvEvent[]): void => {
    for (const event of events) {
      shown.emit(event);
      now += 1000;
    }
  };
  const harmlessOnly = (screen: Emulator): void => {
    expect(screen.unknown).toEqual([]);
    expect(screen.cursorShown).toBe(true);
  };

  test('the picture changes in place, and the last one stays', async () => {
    const { screen, shown, tick } = await open(60, 12);
    emitAll(shown, [plan(small), ...networkDone]);
    await drawn(screen);
    expect(screen.visible).toEqual([
      '✔ network        ready  2.0s',
      '· box debian-12  waiting',
      '· web            waiting for box debian-12',
      '· lb             waiting for box debian-12',
    ]);
    emitAll(shown, [
      start(3),
      end(3),
      start(4),
      end(4),
      start(5),
      end(5),
      start(6),
      end(6),
      start(7),
      output('web', 'a'),
    ]);
    tick();
    expect(screen.visible).toHaveLength(5);
    expect(screen.visible[2]).toBe('⠙ web            provisioning nginx  5.0s');
    emitAll(shown, [end(7), start(8), end(8), start(9), end(9), start(10), end(10)]);
    await shown.done();
    expect(screen.everything).toEqual([
      '✔ network        ready  2.0s',
      '✔ box debian-12  ready  1.0s',
      '✔ web            ready  5.0s',
      '✔ lb             ready  3.0s',
    ]);
    harmlessOnly(screen);
  });

  test('notices and warnings stay above the picture', async () => {
    const { screen, shown, tick } = await open(60, 12);
    emitAll(shown, [
      { type: 'waiting', forCommand: 'up', pid: 7, since: new Date(-12_000).toISOString() },
      plan(small),
    ]);
    await drawn(screen);
    emitAll(shown, [start(1), { type: 'notice', machine: 'web', text: 'no acceleration\x1b]0;t\x07' }]);
    tick();
    emitAll(shown, [{ type: 'warning', text: 'disk is nearly full' }]);
    tick();
    await shown.done();
    expect(screen.everything.slice(0, 3)).toEqual([
      'waiting for tsv up (process 7, running for 12s)',
      'web: no acceleration',
      'warning: disk is nearly full',
    ]);
    expect(screen.everything).toHaveLength(7);
    harmlessOnly(screen);
  });

  test('a second plan comes below the first', async () => {
    const { screen, shown } = await open(60, 12);
    emitAll(shown, [plan(planOf({ do: 'box.ensure', box: 'debian-12', kind: 'vm' })), start(1), end(1)]);
    emitAll(shown, [plan(planOf()), plan(planOf({ do: 'machine.stop', machine: 'db' })), start(1), end(1)]);
    await shown.done();
    expect(screen.everything).toEqual(['✔ box debian-12  ready  1.0s', '✔ db  stopped  1.0s']);
    harmlessOnly(screen);
  });

  test('an empty plan leaves no trace', async () => {
    const { screen, shown } = await open(60, 12);
    shown.emit(plan(planOf()));
    await shown.done();
    expect(screen.text).toBe('');
  });

  test.each([
    [60, 34],
    [60, 20],
    [30, 100],
  ])('a change of width from %i to %i leaves nothing behind', async (from, to) => {
    const { screen, shown, tick } = await open(from, 20);
    shown.emit({ type: 'notice', text: 'earlier' });
    emitAll(shown, [plan(small), ...networkDone, start(3), progress(3, 'base system: 42/136 packages')]);
    await drawn(screen);
    screen.resizeTo(to, 20);
    tick();
    expect(screen.everything).toHaveLength(5);
    expect(screen.everything[0]).toBe('earlier');
    await shown.done();
    expect(screen.everything).toHaveLength(5);
  });

  test('many machines on a low terminal scroll nothing away until the end', async () => {
    const { screen, shown, tick } = await open(60, 8);
    const machines = Array.from({ length: 50 }, (_, index) => ({ do: 'machine.start', machine: `m${index}` }) as const);
    shown.emit(plan(planOf(...machines)));
    await drawn(screen);
    for (let id = 1; id <= 50; id += 1) {
      emitAll(shown, [start(id), output(`m${id - 1}`, 'x')]);
      tick();
      expect(screen.everything.length).toBeLessThan(8);
    }
    for (let id = 1; id <= 50; id += 1) shown.emit(end(id));
    await shown.done();
    expect(screen.everything).toHaveLength(50);
    expect(screen.everything.every((line) => line.startsWith('✔ m'))).toBe(true);
    harmlessOnly(screen);
  });

  test('output that the error holds is not shown twice', async () => {
    const { screen, shown } = await open(60, 12);
    const step = planOf({ do: 'machine.provision', machine: 'web', step: 'nginx' });
    emitAll(shown, [plan(step), start(1), output('web', 'E: no such package')]);
    await drawn(screen);
    emitAll(shown, [fail(1, "web: step 'nginx' failed")]);
    await over(screen); // the error comes later than the last step's end
    await shown.done(
      new TsvError('TSV_PROVISION', 'x', { details: ['last output (1 lines):', '  E: no such package'] }),
    );
    expect(screen.everything).toEqual(["✘ web  step 'nginx' failed  2.0s"]);
  });
});
