import { closeSync, fstatSync, mkdirSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs';
import { AgentServer } from './agent/server.ts';
import type { AgentConfig } from './agent/start.ts';
import { createAgent } from './app/context.ts';
import { TsvError, toTsvError } from './model/errors.ts';
import { idleName, leavingName, lockedError, openLockFile, readHolder, writeHolder } from './state/lock.ts';
import { projectPaths } from './state/paths.ts';
import { removeStateDir } from './state/remove.ts';
import { keepAlive, signalProcess, waitExit } from './sys/children.ts';
import { exitAtOnce } from './sys/exit.ts';
import { tryLockExclusive } from './sys/flock.ts';
import { isAlive, processRef } from './sys/process.ts';

/** The agent's process: one per running project, started by the first command that needs it, gone with the last machine. */
const readyFd = 3;

/** Locks the project for the life of this process. @throws TSV_LOCKED */
async function takeProject(projectDir: string): Promise<void> {
  for (let anonymous = 0; ; ) {
    const lock = openLockFile(projectDir);
    const { lock: path } = projectPaths(projectDir);
    if (tryLockExclusive(lock)) {
      // The last holder may have removed the whole folder: then this is the lock of nothing.
      if (statSync(path, { throwIfNoEntry: false })?.ino === fstatSync(lock).ino) return;
      closeSync(lock);
      continue;
    }
    closeSync(lock);
    const holder = readHolder(projectDir);
    // It may have ended since it had the lock.
    if (holder === undefined && anonymous++ === 0) continue;
    if (holder?.command !== leavingName) throw lockedError(projectDir, holder);
    await waitExit(holder.pid);
  }
}

async function main(): Promise<void> {
  // It ends by exitAtOnce alone: the ends of processes, which it waits for, do not keep Node's event loop going.
  void keepAlive(new Promise<never>(() => {}));
  const config = JSON.parse(readFileSync(0, 'utf8')) as AgentConfig;
  await takeProject(config.projectDir);
  const self = processRef(process.pid);
  if (!isAlive(config.holder) || self === undefined) throw new TsvError('TSV_SANDBOX', 'the sandbox ended at once');
  const note = (command: string, since: string) =>
    writeHolder(config.projectDir, { pid: process.pid, startTime: self.startTime, command, since });
  const since = new Date().toISOString();
  note(idleName, since);

  const { store, engine, service, socketPath, close } = createAgent(config);
  const known = store.current.sandbox;
  if (known?.holder.pid !== config.holder.pid || known.holder.startTime !== config.holder.startTime) {
    // The sandbox before this one is gone, but its helpers may still run.
    for (const helper of [known?.dnsmasq, known?.uplink]) signalProcess(helper, 9);
    await store.update((state) => ({ ...state, sandbox: { holder: config.holder, rooted: config.map.rooted } }));
  }
  const server = new AgentServer(service);
  const leave = async (code: number): Promise<never> => {
    retire();
    await store.settled();
    await close();
    const { machines, networks, volumes, sandbox } = store.current;
    if (Object.keys({ ...machines, ...networks, ...volumes }).length === 0 && sandbox === undefined) {
      // Nothing exists any more: nothing is left behind.
      rmSync(config.runDir, { recursive: true, force: true });
      removeStateDir(config.projectDir);
    }
    // Until the kernel has given the lock back, it is said who leaves: a successor waits for the end of that process.
    exitAtOnce(code);
  };
  const retire = () => {
    note(leavingName, new Date().toISOString());
    server.retire();
  };
  /** No machine, no command: nothing to stay for. */
  let leaving = false;
  const leaveWhenUnused = async () => {
    if (server.busy || leaving) return;
    leaving = true;
    if (server.isRetired) await leave(0);
    if ((await service.leave()) && !server.busy) await leave(0);
    leaving = false;
  };
  engine.onSandboxGone = retire;
  server.onCommand = (running) => {
    if (!server.isRetired) note(running?.command ?? idleName, running?.since ?? since);
  };
  await engine.adopt((text) => console.error(text));
  mkdirSync(config.runDir, { recursive: true, mode: 0o700 }); // our predecessor may have removed it when it left
  await server.listen(socketPath);
  // Without its holder the sandbox cannot be entered by anybody any more: the next command makes a new one.
  void waitExit(config.holder.pid).then(() => {
    if (leaving) return;
    retire();
    if (!server.busy) void leave(1);
  });
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => void leave(0));
  writeSync(readyFd, '{"ready":true}\n');
  closeSync(readyFd);
  // Not before somebody could have come: whoever started this agent wants something of it.
  server.onIdle = () => {
    engine.settle(() => !server.busy);
    void leaveWhenUnused();
  };
  engine.onMachineGone = () => void leaveWhenUnused();
}

main().catch((error: unknown) => {
  const failure = toTsvError(error);
  if (failure.code === 'TSV_INTERNAL') console.error(error);
  try {
    writeSync(readyFd, `${JSON.stringify({ error: failure.toJSON() })}\n`);
  } catch {
    // Nobody listens any more; the log has it.
  }
  exitAtOnce(1);
});
