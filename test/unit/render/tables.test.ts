import { describe, expect, test } from 'vitest';
import { renderDoctor } from '../../../src/cli/render/doctor.ts';
import { planCounts, planJson, renderPlan } from '../../../src/cli/render/plan.ts';
import { renderStatus, type StatusRow } from '../../../src/cli/render/status.ts';
import { renderTable } from '../../../src/cli/render/table.ts';
import { displayWidth } from '../../../src/cli/render/text.ts';
import { mendCommands } from '../../../src/model/mend.ts';
import type { Requirement } from '../../../src/model/provider.ts';
import { ascii, coloured, pipe, planOf, screenOf, small, visible } from './support.ts';

describe('a table', () => {
  const rows = [
    ['a', 'a rather long description of it', ''],
    ['longer', { text: 'short', style: 'red' }, ''],
  ] as const;

  test('is aligned, without columns that hold nothing', () => {
    expect(renderTable(['NAME', 'WHAT', 'EMPTY'], rows, pipe)).toBe(`NAME    WHAT
a       a rather long description of it
longer  short
`);
  });

  test('fits into a terminal, and is cut nowhere else', () => {
    const text = renderTable(['NAME', 'WHAT', 'EMPTY'], rows, screenOf(24, 24));
    expect(text).toBe(`NAME    WHAT
a       a rather long d…
longer  short
`);
    expect(renderTable(['NAME', 'WHAT'], rows, { ...pipe, columns: 24 })).toContain('description of it');
  });

  test('has colours of its own only', () => {
    expect(visible(renderTable(['N'], [['\x1b[31mx\x1b[2J'], [{ text: 'y', style: 'red' }]], coloured))).toBe(
      '<2>N<22>\nx\n<31>y<39>\n',
    );
  });

  test('of nothing is nothing', () => {
    expect(renderTable(['NAME'], [], pipe)).toBe('');
    expect(renderTable([], [['x', 'y']], pipe)).toBe('x  y\n');
  });
});

describe('the status', () => {
  const row = (machine: string, state: StatusRow['state'], more: Partial<StatusRow> = {}): StatusRow => ({
    machine,
    kind: 'container',
    state,
    addresses: {},
    forwards: [],
    ...more,
  });
  const mixed = [
    row('lb', 'running', {
      addresses: { default: '10.77.0.2', backend: '10.77.1.2' },
      forwards: ['127.0.0.1:8080->80'],
      provisioned: '1/1',
    }),
    row('web-1', 'running', { addresses: { backend: '10.77.1.3' }, provisioned: '1/1' }),
    row('db', 'stopped', {
      kind: 'vm',
      accel: 'tcg',
      addresses: { backend: '10.77.1.10' },
      provisioned: '0/2',
      detail: 'ended unexpectedly',
    }),
  ];

  test('is a table, the sums, and what to do next', () => {
    expect(
      renderStatus({ machines: mixed }, pipe),
    ).toBe(`MACHINE  KIND       STATE    ADDRESS               FORWARDS            STEPS  WHY
lb       container  running  10.77.0.2, 10.77.1.2  127.0.0.1:8080->80  1/1
web-1    container  running  10.77.1.3                                 1/1
db       vm (tcg)   stopped  10.77.1.10                                0/2    ended unexpectedly

2 running, 1 stopped
→ tsv up starts db
`);
  });

  test('has a column for disks where there are some', () => {
    const disks = [
      { name: 'data', sizeBytes: 2 ** 31 },
      { name: 'log', sizeBytes: 8 * 2 ** 20 },
    ];
    expect(renderStatus({ machines: [row('a', 'running', { disks }), row('b', 'running')] }, pipe)).toContain(
      `MACHINE  KIND       STATE    DISKS
a        container  running  data 2G, log 8M
b        container  running
`,
    );
  });

  test('fits into eighty columns', () => {
    for (const line of renderStatus({ machines: mixed }, screenOf(80, 24)).split('\n'))
      expect(displayWidth(line)).toBeLessThanOrEqual(80);
  });

  test('has a colour per state', () => {
    expect(
      visible(renderStatus({ machines: [row('a', 'running'), row('b', 'broken', { detail: 'no disk' })] }, coloured)),
    ).toBe(`<2>MACHINE<22>  <2>KIND     <22>  <2>STATE  <22>  <2>WHY<22>
a        container  <32>running<39>
b        container  <31>broken <39>  <2>no disk<22>

1 running, 1 broken
<36>→<39> tsv up repairs b
`);
  });

  test.each([
    [['not created', 'not created'], '-> tsv up creates them'],
    [['running', 'not created'], '-> tsv up creates m1'],
    [['stopped', 'stopped'], '-> tsv up starts them'],
    [['running', 'stopped', 'stopped', 'stopped', 'stopped'], '-> tsv up starts the 4 of them'],
    [['broken', 'stopped'], '-> tsv up repairs m0'],
    [['starting', 'running'], '1 running, 1 starting'],
    [['running'], '1 running'],
    [[], 'this project has no machines'],
  ] as const)('of %j ends with %s', (states, last) => {
    const text = renderStatus({ machines: states.map((state, index) => row(`m${index}`, state)) }, ascii);
    expect(text.split('\n').at(-2)).toBe(last);
  });

  test('marks what tsv run runs, and advises nothing about it', () => {
    const text = renderStatus({ machines: [row('a', 'running'), row('run-1', 'stopped', { oneOff: true })] }, pipe);
    expect(text).toMatch(/^run-1 +container \(run\) +stopped$/m);
    expect(text.split('\n').at(-2)).toBe('1 running, 1 stopped');
  });

  test('names the command that is under way instead of advice', () => {
    const text = renderStatus(
      { machines: [row('a', 'not created')], inProgress: { pid: 12, command: 'tsv up' } },
      pipe,
    );
    expect(text).toMatch(/\n1 not created\nunder way: tsv up \(process 12\)\n$/);
  });
});

describe('the doctor', () => {
  const requirement = (id: string, ok: boolean, mend?: string, required = true): Requirement => ({
    id,
    description: `${id} is there`,
    ok,
    required,
    detail: ok ? `/usr/bin/${id}` : 'not found',
    ...(mend === undefined ? {} : { mend }),
  });
  const apt = 'sudo apt-get install -y --no-install-recommends';
  const some = [
    requirement('ip', true, `${apt} iproute2`),
    requirement('dnsmasq', false, `${apt} dnsmasq-base`),
    requirement('subuid', false, 'sudo usermod --add-subuids 100000-165535 dev'),
    requirement('qemu', false, `${apt} qemu-system-x86 qemu-utils`, false),
    requirement('qemu-img', false, `${apt} qemu-utils`, false),
  ];

  test('lists all, then the commands that mend', () => {
    expect(renderDoctor(some, pipe)).toBe(`✔ ip is there        /usr/bin/ip
✘ dnsmasq is there   not found
✘ subuid is there    not found
– qemu is there      not found
– qemu-img is there  not found

2 things missing, 2 things that would help
to mend:

  ${apt} dnsmasq-base qemu-system-x86 qemu-utils
  sudo usermod --add-subuids 100000-165535 dev
`);
  });

  test('has colours and does without Unicode', () => {
    expect(visible(renderDoctor(some.slice(0, 1), { ...ascii, colour: true }))).toBe(
      '<32>+<39> ip is there  <2>/usr/bin/ip<22>\n\neverything is there\n',
    );
  });

  test('gives each command once, and leaves alone what is no plain installation', () => {
    const odd = `${apt} a b && reboot`;
    expect(
      mendCommands([requirement('a', false, odd), requirement('b', false, odd), requirement('c', false, `${apt} c`)]),
    ).toEqual([odd, `${apt} c`]);
  });
});

describe('a plan', () => {
  test('is grouped by what it is about, with causes and sums', () => {
    expect(renderPlan(small, pipe)).toBe(`+ network        set up the sandbox, set up default  new
+ box debian-12  prepare for containers              needed by web and 1 more
+ web            create, start                       new
                 provision nginx                     not done
+ lb             create, start                       new

2 to create, 1 step to run, 1 network to set up, 1 box to prepare
`);
  });

  test('shows changes and removals', () => {
    const change = planOf(
      [{ do: 'machine.stop', machine: 'web' }, 'memory changed'],
      [{ do: 'machine.start', machine: 'web' }, 'memory changed', 1],
      [{ do: 'machine.wait', machine: 'web' }, 'started', 2],
      [{ do: 'machine.destroy', machine: 'db' }, 'box changed'],
      [{ do: 'machine.create', machine: 'db' }, 'box changed', 4],
      [{ do: 'machine.stop', machine: 'old' }, 'not in the Tsfile'],
      [{ do: 'machine.destroy', machine: 'old' }, 'not in the Tsfile', 6],
      [{ do: 'machine.healthy', machine: 'lb' }, 'not ready yet'],
    );
    expect(visible(renderPlan(change, coloured))).toBe(`<33>~<39> web  stop, start      <2>memory changed<22>
<33>~<39> db   destroy, create  <2>box changed<22>
<31>-<39> old  stop, destroy    <2>not in the Tsfile<22>
<33>~<39> lb   check health     <2>not ready yet<22>

1 to recreate, 1 to restart, 1 to destroy, 1 to check
`);
  });

  test('says what is changed while it runs', () => {
    const change = planOf(
      [{ do: 'machine.adjust', machine: 'web' }, 'memory changed'],
      [{ do: 'machine.adjust', machine: 'lb' }, 'cpus changed'],
      [{ do: 'machine.wait', machine: 'lb' }, 'forwards changed'],
    );
    expect(renderPlan(change, pipe)).toBe(`~ web  adjust                memory changed (live)
~ lb   adjust                cpus changed (live)
       wait until reachable  forwards changed

2 to adjust
`);
  });

  test('may be empty', () => {
    expect(renderPlan(planOf(), pipe)).toBe('nothing to do\n');
    expect(planCounts(planOf())).toBe('nothing to do');
    expect(planCounts(planOf({ do: 'sandbox.ensure' }))).toBe('the sandbox to set up');
    expect(planCounts(planOf({ do: 'image.ensure', image: 'docker.io/library/nginx:1' }))).toBe('1 image to get');
  });

  test('is JSON for programs', () => {
    expect(JSON.parse(planJson(planOf([{ do: 'machine.start', machine: 'web' }, 'not running'])))).toEqual({
      changes: 1,
      summary: '1 to start',
      nodes: [
        {
          id: 1,
          action: { do: 'machine.start', machine: 'web' },
          cause: 'not running',
          after: [],
          step: 'machine.start web',
        },
      ],
    });
  });
});
