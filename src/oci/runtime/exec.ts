import { closeSync } from 'node:fs';
import { joinFolders, subCgroup } from '../../cgroup/index.ts';
import { connectConsole, consolePair, receiveTerminal } from '../console.ts';
import { execInContainer } from '../exec.ts';
import { checkLabels } from '../host.ts';
import type { OciProcess } from '../spec.ts';
import { replaceFile } from '../store.ts';
import { withheld } from './create.ts';
import { attend, forwardSignals, requireConsole } from './foreground.ts';
import { processWithHome } from './home.ts';
import { load, ownStdio, preserved, type Runtime, statusWord, wrongState } from './runtime.ts';

export interface ExecRequest {
  readonly process: OciProcess;
  readonly pidFile?: string;
  readonly consoleSocket?: string;
  readonly detach: boolean;
  readonly preserveFds: number;
  readonly ignorePaused?: boolean;
  /** As `exec --cgroup` has them; none: the container's own. */
  readonly cgroups?: readonly string[];
}

/** Runs another process in a container. @returns its exit code, or 0 when detached */
export async function exec(runtime: Runtime, id: string, request: ExecRequest): Promise<number> {
  const { record } = load(runtime, id);
  const status = statusWord(record);
  if (status === 'stopped') throw wrongState(id, 'cannot exec in a container that is stopped');
  if (status === 'paused' && request.ignorePaused !== true) {
    throw wrongState(id, 'cannot exec in a paused container (use --ignore-paused to override)');
  }
  checkLabels(request.process);
  for (const warning of withheld(record.config, request.process)) runtime.warn(warning);
  const cgroup = subCgroup(record.cgroup, request.cgroups ?? []);
  const initPid = record.process?.pid ?? 0;
  const terminal = request.process.terminal === true;
  const pair = terminal && !request.detach && request.consoleSocket === undefined ? consolePair() : undefined;
  requireConsole(terminal, request.consoleSocket, pair === undefined ? {} : { console: pair.send });
  const console = request.consoleSocket === undefined ? pair?.send : connectConsole(request.consoleSocket);
  const signals = request.detach ? undefined : forwardSignals();
  try {
    const command = await execInContainer({
      name: id,
      initPid,
      process: processWithHome(request.process, `/proc/${initPid}/root`),
      ...(record.config.linux?.seccomp === undefined ? {} : { seccomp: record.config.linux.seccomp }),
      stdio: ownStdio,
      ...(console === undefined ? {} : { console }),
      cgroupFolders: joinFolders(cgroup),
      preserved: preserved(request.preserveFds),
      detached: request.detach,
    });
    if (request.pidFile !== undefined) replaceFile(request.pidFile, String(command.pid));
    if (signals === undefined) return 0;
    return await attend(command, pair === undefined ? undefined : receiveTerminal(pair.receive), signals);
  } finally {
    signals?.stop();
    for (const fd of new Set([console, pair?.send, pair?.receive])) if (fd !== undefined) closeSync(fd);
  }
}
