import { spawn } from 'node:child_process';
import { closeSync, fstatSync, openSync, rmSync, statSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import type { ErrorData } from '../model/errors.ts';
import { TsvError } from '../model/errors.ts';
import type { ProcessRef } from '../model/state.ts';
import { openLockFile } from '../state/lock.ts';
import { ensureRunDir, projectPaths, runPaths, storeDir } from '../state/paths.ts';
import { removeStateDir } from '../state/remove.ts';
import { readState } from '../state/store.ts';
import { isAlive } from '../sys/process.ts';
import { type Holder, readUserMap, startHolder, type UserMap } from '../sys/userns.ts';
import { openAgent } from './client.ts';

/** What a new agent is told: it cannot find these out itself, being uid 0 of the sandbox. */
export interface AgentConfig {
  readonly projectDir: string;
  readonly projectName: string;
  readonly runDir: string;
  readonly storeDir: string;
  readonly holder: ProcessRef;
  readonly map: UserMap;
}

export interface AgentPlace {
  readonly projectDir: string;
  readonly projectName: string;
  /** The built agent program. */
  readonly agentFile: string;
  readonly env: NodeJS.ProcessEnv;
}

/** The socket of the project's agent, which is started when none listens. */
export async function ensureAgent(place: AgentPlace): Promise<Socket> {
  const runDir = ensureRunDir(place.projectDir, place.env);
  const { agentSocket } = runPaths(runDir);
  for (let tries = 0; tries < startTries; tries++) {
    const running = await openAgent(agentSocket);
    if (running !== undefined) return running;
    // One starts it; others who come now wait here and find it running.
    const { lockExclusive } = await import('../sys/flock.ts');
    ensureRunDir(place.projectDir, place.env); // the last agent removes it when it leaves
    const startLock = lockFile(join(runDir, 'start.lock'), lockExclusive);
    try {
      const meanwhile = await openAgent(agentSocket);
      if (meanwhile !== undefined) return meanwhile;
      await startAgent(place, runDir);
    } catch (error) {
      if (error instanceof SandboxGone) continue;
      removeUnused(place.projectDir, runDir);
      throw error;
    } finally {
      closeSync(startLock);
    }
    // It may serve somebody else first, have nothing left to do, and leave before we are connected: once more, then.
  }
  throw new TsvError('TSV_AGENT', "the project's agent ended at once", {
    details: [`its log: ${projectPaths(place.projectDir).agentLog}`],
  });
}

/** The sandbox that a new agent was to enter has ended meanwhile: the next one makes its own. */
class SandboxGone extends Error {}

const startTries = 5;

/** What a start that failed has made for a project of which nothing exists. */
function removeUnused(projectDir: string, runDir: string): void {
  if (statSync(projectPaths(projectDir).stateFile, { throwIfNoEntry: false }) !== undefined) return;
  rmSync(runDir, { recursive: true, force: true });
  removeStateDir(projectDir);
}

/** Opens and locks a file that its last holder may remove: what was locked must still be what the name stands for. */
function lockFile(path: string, lock: (fd: number) => void): number {
  for (;;) {
    const fd = openSync(path, 'a', 0o600);
    lock(fd);
    if (statSync(path, { throwIfNoEntry: false })?.ino === fstatSync(fd).ino) return fd;
    closeSync(fd);
  }
}

async function startAgent(place: AgentPlace, runDir: string): Promise<void> {
  const map = readUserMap();
  const state = readState(place.projectDir);
  closeSync(openLockFile(place.projectDir)); // makes the state folder, or says why it may not be used
  const old = state?.sandbox?.holder;
  let fresh: Holder | undefined;
  if (!isAlive(old))
    fresh = await startHolder(map, {
      namespaces: ['net', 'mount'],
      label: `tsv:${place.projectName}`,
      env: { TSV_DIR: place.projectDir },
    });
  const holder = isAlive(old) ? old : fresh?.process;
  if (holder === undefined) throw new TsvError('TSV_SANDBOX', 'the sandbox ended at once');
  const config: AgentConfig = {
    projectDir: place.projectDir,
    projectName: place.projectName,
    runDir,
    storeDir: storeDir(place.env),
    holder,
    map,
  };
  try {
    await launchAgent(place.agentFile, config, place.env);
  } catch (error) {
    fresh?.release();
    // The agent before it was on its way out, with the last machine, and took the sandbox along.
    if (fresh === undefined && !isAlive(old)) throw new SandboxGone();
    throw error;
  }
  fresh?.keep();
}

/** The agent runs as root of the sandbox's user namespace, with this user's groups (kvm), in the host's network. */
async function launchAgent(agentFile: string, config: AgentConfig, env: NodeJS.ProcessEnv): Promise<void> {
  const enter = config.map.rooted
    ? []
    : ['nsenter', '--user', '--preserve-credentials', '-t', String(config.holder.pid), '--'];
  const [file = process.execPath, ...args] = [...enter, process.execPath, agentFile];
  const log = openSync(projectPaths(config.projectDir).agentLog, 'a', 0o600);
  const child = spawn(file, args, {
    detached: true,
    cwd: '/',
    stdio: ['pipe', log, log, 'pipe'],
    // An ordinary user's PATH lacks the folders of ip, nft and dnsmasq.
    env: {
      ...env,
      NODE_EXTRA_CA_CERTS: undefined, // it speaks no TLS, and Node would read them all before anything else
      PATH: `${env.PATH ?? '/usr/bin:/bin'}:/usr/local/sbin:/usr/sbin:/sbin`,
      TSV_ID: `tsv:${config.projectName}`,
      TSV_DIR: config.projectDir, // by which `tsv ls` finds the project
    },
  });
  closeSync(log);
  child.stdin?.on('error', () => {});
  child.stdin?.end(JSON.stringify(config));
  const ready = child.stdio[3];
  await new Promise<void>((resolve, reject) => {
    let text = '';
    const fail = (message: string, details: string[] = []) =>
      reject(
        new TsvError('TSV_AGENT', message, {
          details: [...details, `its log: ${projectPaths(config.projectDir).agentLog}`],
        }),
      );
    child.once('error', (error) => fail(`the project's agent could not be started: ${error.message}`));
    // After 'exit' there may still be an answer to read.
    child.once('close', (code, signal) => fail("the project's agent ended at once", [signal ?? `exit code ${code}`]));
    ready?.on('data', (data: Buffer) => {
      text += data.toString('utf8');
      if (!text.endsWith('\n')) return;
      const answer = JSON.parse(text) as { ready: true } | { error: ErrorData };
      if ('error' in answer) reject(TsvError.fromJSON(answer.error));
      else resolve();
    });
  });
  (ready as Socket | undefined)?.destroy();
  child.unref();
}
