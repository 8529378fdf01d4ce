import { toTsvError } from '../../model/errors.ts';
import type { TsvEvent } from '../../model/events.ts';
import type { Plan } from '../../model/plan.ts';
import { Board, type Row } from './board.ts';
import { finalFrame, liveFrame } from './frame.ts';
import { waitingText, warningText } from './plain.ts';
import type { Progress, ProgressOptions } from './progress.ts';
import { Screen } from './screen.ts';
import { style, symbolsOf } from './terminal.ts';
import { harmless } from './text.ts';

const frameEveryMs = 100;

/** One plan on the screen: a listr2 task per row, which ends when the events say so. */
interface Section {
  readonly board: Board;
  readonly tasks: ReadonlyMap<string, Gate>;
  /** Opened by the next plan or the end of the command: only then it is known what the error will hold. */
  readonly over: Gate;
}

interface Gate {
  readonly opened: Promise<void>;
  open(): void;
}

/**
 * The live tree for terminals. listr2 runs one task per machine, network or box and tells when to begin and end
 * drawing. The drawing is our own: listr2's renderer takes width and cursor from the process's own stdout and stderr,
 * cuts off the top of what is too high, and writes on to a terminal that does not keep up.
 */
export function treeProgress({ stream, terminal, now = Date.now }: Omit<ProgressOptions, 'mode'>): Progress {
  const screen = new Screen(stream, symbolsOf(terminal).ellipsis);
  let section: Section | undefined;
  let shown: Promise<void> = Promise.resolve();
  /** Lines that the error, printed after us, holds anyway. */
  let inError: ReadonlySet<string> = new Set();
  const isShownLater = (row: Row): boolean => inError.has(row.tail.at(-1)?.trim() ?? '');

  const finishSection = (): void => {
    for (const task of section?.tasks.values() ?? []) task.open();
    section?.over.open();
    section = undefined;
  };

  const begin = (plan: Plan): void => {
    finishSection();
    if (plan.nodes.length === 0) return;
    const board = new Board(plan);
    const begun: Section = { board, tasks: new Map(board.names.map((name) => [name, gate()])), over: gate() };
    section = begun;
    shown = shown.then(() => show(begun));
  };

  const show = async ({ board, tasks, over }: Section): Promise<void> => {
    const { Listr } = await import('listr2');
    let turn = 0;
    let timer: NodeJS.Timeout | undefined;
    const draw = (): void => {
      const size = { columns: stream.columns || terminal.columns, rows: stream.rows || terminal.rows };
      screen.draw(liveFrame(board.rows(now()), size, terminal, turn));
    };
    class Renderer {
      static readonly nonTTY = true; // whether this is a terminal was decided for our stream, not for stdout
      static readonly rendererOptions = {};
      static readonly rendererTaskOptions = {};
      render(): void {
        draw();
        stream.on('resize', draw);
        timer = setInterval(() => {
          turn += 1;
          draw();
        }, frameEveryMs);
        timer.unref();
      }
      end(): void {
        clearInterval(timer);
        stream.off('resize', draw);
      }
    }
    await new Listr(
      [...tasks].map(([title, { opened }]) => ({ title, task: () => opened })),
      { renderer: Renderer, concurrent: true, exitOnError: false, registerSignalListeners: false },
    ).run();
    draw();
    await over.opened;
    screen.finish(finalFrame(board.rows(now()), stream.columns || terminal.columns, terminal, isShownLater));
  };

  /** What has no row is printed, and stays. */
  const print = (event: TsvEvent): void => {
    if (event.type === 'waiting') screen.print(style(terminal, waitingText(event, now()), 'dim'));
    if (event.type !== 'notice' && event.type !== 'output' && event.type !== 'warning') return;
    const about = event.machine === undefined ? '' : `${harmless(event.machine)}: `;
    const isWarning = event.type === 'warning';
    screen.print(
      isWarning ? about + warningText(event.text, terminal) : style(terminal, about + harmless(event.text), 'dim'),
    );
  };

  return {
    emit(event) {
      if (event.type === 'plan') return begin(event.plan);
      if (section?.board.apply(event, now()) !== true) return print(event);
      if (event.type !== 'step.end') return;
      for (const [name, task] of section.tasks) if (section.board.isOver(name)) task.open();
    },
    async done(error) {
      if (error !== undefined) inError = new Set(toTsvError(error).details.map((detail) => detail.trim()));
      finishSection();
      await shown;
      await screen.idle();
    },
  };
}

function gate(): Gate {
  let open = (): void => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}
