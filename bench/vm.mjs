import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { programPath } from './docker.mjs';
import { interleave, run } from './measure.mjs';
import { boxName, buildBox, createProject } from './project.mjs';

/** One VM from nothing to its first SSH login, beside the same QEMU by hand to its SSH banner. */
export const vm = {
  name: 'vm',
  rounds: 3,
  async run({ dir, rounds, cleanup, skip }) {
    if (programPath('qemu-system-x86_64') === undefined)
      return skip('QEMU is not installed (Debian: qemu-system-x86)') ?? [];
    await buildBox('vm');
    const project = createProject(
      join(dir, 'vm'),
      `version: 1\nproject: bench-vm\nmachines:\n  vm: { box: ${boxName}, cpus: 2, memory: 512M, warm: false }\n`,
    );
    cleanup(() => project.time('destroy', '-f'));
    await project.time('up', '--quiet');
    const byHand = takeOver(project, join(dir, 'by-hand'));
    await project.time('destroy', '-f', '--quiet');
    const ms = await interleave(
      [
        async () => {
          const up = await project.time('up', '--quiet');
          await project.time('destroy', '-f', '--quiet');
          return { up };
        },
        async () => ({ byHand: await byHand(cleanup) }),
      ],
      { rounds, warmups: 0 }, // the VM that was taken over has warmed the page cache
    );
    return [{ what: '`tsv up`, one VM, cold', ours: ms.up, peer: 'its QEMU by hand', theirs: ms.byHand, target: 1.3 }];
  },
};

/**
 * Reads the command line of the project's running QEMU and makes of it what somebody would start by hand: files and
 * overlay of its own, user-mode network with a forward to port 22, running at once, console into a file.
 * @returns a function that starts it, waits for the SSH banner, ends it, and resolves with the milliseconds to the banner
 */
function takeOver(project, dir) {
  const state = JSON.parse(readFileSync(join(project.dir, '.ts-vm/state.json'), 'utf8'));
  const argv = readFileSync(`/proc/${state.machines.vm.process.pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
  mkdirSync(dir, { recursive: true });
  const machineFile = (name) => join(project.dir, '.ts-vm/machines/vm', name);
  cpSync(machineFile('credentials'), join(dir, 'credentials'), { recursive: true });
  const overlay = join(dir, 'disk.qcow2');
  const { file, format } = backing(machineFile('disk.qcow2'));

  const own = argv.flatMap((argument, index) => {
    if (argument === '-S') return []; // it waits for tsv
    const option = argument.startsWith('-') ? `${argument} ${argv[index + 1]}` : `${argv[index - 1]} ${argument}`;
    if (option.startsWith('-mon ') || option.startsWith('-chardev socket,id=qmp,')) return [];
    if (argument.startsWith('socket,id=guest,')) return ['null,id=guest'];
    if (argument.startsWith('socket,id=console,')) return [`file,id=console,path=${join(dir, 'console.log')}`];
    return [
      argument
        .replace(machineFile('disk.qcow2'), overlay)
        .replace(machineFile('credentials'), join(dir, 'credentials')),
    ];
  });
  return async (cleanup) => {
    const port = await freePort();
    const qemu = own.map((argument) =>
      argument.replace(/^tap,id=(\w+),.*/, `user,id=$1,hostfwd=tcp:127.0.0.1:${port}-:22`),
    );
    rmSync(overlay, { force: true });
    const start = performance.now();
    await run(['qemu-img', 'create', '-q', '-f', 'qcow2', '-b', file, '-F', format, overlay]);
    const log = openSync(join(dir, 'qemu.log'), 'a');
    const child = spawn(programPath(qemu[0]) ?? qemu[0], qemu.slice(1), { stdio: ['ignore', log, log] });
    const exited = once(child, 'exit').then(() => true);
    cleanup(() => child.kill('SIGKILL'));
    const ended = exited.then(() =>
      Promise.reject(new Error(`QEMU ended:\n${readFileSync(join(dir, 'qemu.log'), 'utf8').trim()}`)),
    );
    ended.catch(() => {});
    await Promise.race([sshBanner(port), ended]);
    const ms = performance.now() - start;
    child.kill('SIGKILL');
    await exited;
    return ms;
  };
}

/** The overlay's base, from its qcow2 header (QEMU's docs/interop/qcow2.txt). */
function backing(overlay) {
  const head = readFileSync(overlay).subarray(0, 4096);
  const offset = Number(head.readBigUInt64BE(8));
  const file = head.subarray(offset, offset + head.readUInt32BE(16)).toString();
  return { file, format: file.endsWith('.raw') ? 'raw' : 'qcow2' };
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/**
 * QEMU takes connections before the guest does, and an emulated guest needs more than a second from the connection to
 * its greeting: a new one is opened four times a second, none is given up, and the first greeting counts.
 */
async function sshBanner(port) {
  const sockets = [];
  let greeted = () => {};
  const greeting = new Promise((resolve) => {
    greeted = resolve;
  });
  const open = () => {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => {}); // the guest does not listen yet
    socket.on('data', (bytes) => bytes.toString().startsWith('SSH-') && greeted());
    sockets.push(socket);
  };
  const timer = setInterval(open, 250);
  await greeting;
  clearInterval(timer);
  for (const socket of sockets) socket.destroy();
}
