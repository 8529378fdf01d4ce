import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { interleave } from './measure.mjs';
import { boxName, buildBox, createProject, emptyNode } from './project.mjs';

const projects = 20;
const restMs = 5000;

/** What it costs when nobody wants anything: twenty projects of a container each, listed, and one of their agents at rest. */
export const rest = {
  name: 'rest',
  rounds: 21,
  async run({ dir, rounds, cleanup }) {
    await buildBox('container');
    const all = Array.from({ length: projects }, (_, index) =>
      createProject(
        join(dir, 'rest', String(index)),
        `version: 1\nproject: bench-rest-${index}\nnetworks: { default: { mode: isolated } }\nmachines:\n  c: { image: ${boxName} }\n`,
      ),
    );
    cleanup(async () => {
      for (const project of all) await project.time('destroy', '-f');
    });
    for (const project of all) await project.time('up', '--quiet');
    const [first] = all;
    const ms = await interleave(
      [async () => ({ node: await emptyNode() }), async () => ({ ls: await first.time('ls') })],
      { rounds, warmups: 3 },
    );
    const agent = JSON.parse(readFileSync(join(first.dir, '.ts-vm', 'lock.holder'), 'utf8')).pid;
    const idle = spawn(process.execPath, ['-e', 'process.stdout.write("."); setInterval(() => {}, 1 << 30)'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    cleanup(() => idle.kill());
    await once(idle.stdout, 'data');
    const before = [agent, idle.pid].map(wakeUps);
    await delay(restMs);
    const [ours, theirs] = [agent, idle.pid].map((pid, index) => wakeUps(pid) - before[index]);
    const peer = '`node`, idle';
    return [
      { what: `\`tsv ls\`, ${projects} projects run`, ours: ms.ls, peer: '`node -e 0`', theirs: ms.node, target: 2 },
      {
        what: 'memory of an agent at rest',
        unit: 'MiB',
        ours: [residentMiB(agent)],
        peer,
        theirs: [residentMiB(idle.pid)],
      },
      { what: `its wake-ups in ${restMs / 1000} seconds`, unit: 'times', ours: [ours], peer, theirs: [theirs] },
    ];
  },
};

const status = (path) => readFileSync(join(path, 'status'), 'utf8');
const field = (path, name) => Number(new RegExp(`^${name}:\\s*(\\d+)`, 'm').exec(status(path))?.[1]);

const residentMiB = (pid) => field(`/proc/${pid}`, 'VmRSS') / 1024;

/** How often its threads went to sleep by themselves, and so were woken (proc_pid_status(5)). */
const wakeUps = (pid) =>
  readdirSync(`/proc/${pid}/task`)
    .map((thread) => field(`/proc/${pid}/task/${thread}`, 'voluntary_ctxt_switches'))
    .reduce((sum, count) => sum + count, 0);
