import { sizeText } from '../../model/size.ts';
import { type Cell, renderTable } from './table.ts';
import { type Style, style, symbolsOf, type Terminal } from './terminal.ts';
import { harmless } from './text.ts';

export interface StatusRow {
  readonly machine: string;
  readonly kind: 'vm' | 'container';
  /** Of `tsv run`. */
  readonly oneOff?: true;
  readonly state: 'running' | 'paused' | 'suspended' | 'stopped' | 'completed' | 'not created' | 'broken' | 'starting';
  readonly health?: { readonly status: 'starting' | 'healthy' | 'unhealthy' };
  /** Why it is so, where that is not plain. */
  readonly detail?: string;
  /** By network. */
  readonly addresses: Readonly<Record<string, string>>;
  readonly forwards: readonly string[];
  readonly disks?: readonly { readonly name: string; readonly sizeBytes: number }[];
  /** VMs: `kvm` or `tcg`. */
  readonly accel?: string;
  /** Steps done, of how many: `1/2`. */
  readonly provisioned?: string;
}

export interface StatusView {
  readonly machines: readonly StatusRow[];
  readonly inProgress?: { readonly pid: number; readonly command: string };
}

const stateStyles: Readonly<Record<StatusRow['state'], Style>> = {
  running: 'green',
  starting: 'yellow',
  paused: 'cyan',
  suspended: 'cyan',
  stopped: 'yellow',
  completed: 'green',
  'not created': 'dim',
  broken: 'red',
};

const healthStyles: Readonly<Record<NonNullable<StatusRow['health']>['status'], Style>> = {
  starting: 'yellow',
  healthy: 'green',
  unhealthy: 'red',
};

const columns = ['MACHINE', 'KIND', 'STATE', 'ADDRESS', 'FORWARDS', 'DISKS', 'STEPS', 'WHY'];

/** The machines as a table, a line that counts them, and what to do next; with a line break at the end. */
export function renderStatus(
  { machines, inProgress }: StatusView,
  terminal: Omit<Terminal, 'rows' | 'cursor'>,
): string {
  const { hint } = symbolsOf(terminal);
  const rows = machines.map((row): Cell[] => [
    row.machine,
    kindCell(row),
    stateCell(row),
    Object.values(row.addresses).join(', '),
    row.forwards.join(', '),
    (row.disks ?? []).map(({ name, sizeBytes }) => `${name} ${sizeText(sizeBytes)}`).join(', '),
    row.provisioned ?? '',
    { text: row.detail ?? '', style: 'dim' },
  ]);
  const table = renderTable(columns, rows, terminal);
  const next = inProgress === undefined ? nextStep(machines) : undefined;
  const lines = [
    machines.length === 0 ? 'this project has no machines' : summary(machines),
    ...(inProgress === undefined ? [] : [`under way: ${harmless(inProgress.command)} (process ${inProgress.pid})`]),
    ...(next === undefined ? [] : [`${style(terminal, hint, 'cyan')} ${next}`]),
  ];
  return `${table}${table === '' ? '' : '\n'}${lines.join('\n')}\n`;
}

function kindCell({ kind, accel, oneOff }: StatusRow): string {
  const mark = oneOff === true ? 'run' : accel;
  return mark === undefined ? kind : `${kind} (${mark})`;
}

const stateCell = ({ state, health }: StatusRow): Cell =>
  health === undefined || state === 'paused'
    ? { text: state, style: stateStyles[state] }
    : { text: `${state} (${health.status})`, style: healthStyles[health.status] };

/** `3 running, 1 stopped`: what is well first. */
function summary(machines: readonly StatusRow[]): string {
  const states = [
    'running',
    'completed',
    'starting',
    'paused',
    'suspended',
    'stopped',
    'broken',
    'not created',
  ] as const;
  const counts = states.map((state) => ({ state, amount: machines.filter((row) => row.state === state).length }));
  return counts.flatMap(({ state, amount }) => (amount === 0 ? [] : [`${amount} ${state}`])).join(', ');
}

function nextStep(all: readonly StatusRow[]): string | undefined {
  const machines = all.filter(({ oneOff }) => oneOff !== true);
  const down = machines.filter(({ state }) => state === 'stopped' || state === 'not created');
  const broken = machines.filter(({ state }) => state === 'broken');
  if (broken.length > 0) return `tsv up repairs ${named(broken)}`;
  const asleep = machines.filter(({ state }) => state === 'suspended');
  if (asleep.length > 0) return `tsv resume lets ${named(asleep)} go on`;
  if (down.length === 0) return undefined;
  const which = down.length === machines.length ? 'them' : named(down);
  return down.every(({ state }) => state === 'not created') ? `tsv up creates ${which}` : `tsv up starts ${which}`;
}

/** All names while they are few. */
const named = (rows: readonly StatusRow[]): string =>
  rows.length > 3 ? `the ${rows.length} of them` : rows.map(({ machine }) => harmless(machine)).join(', ');
