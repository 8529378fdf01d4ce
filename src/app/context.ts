import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createKvmProvider, type KvmProvider } from '../../providers/kvm/index.ts';
import { createNamespaceProvider } from '../../providers/namespace/index.ts';
import { Changes } from '../agent/changes.ts';
import { Engine } from '../agent/engine.ts';
import type { MachinePlaces, Providers } from '../agent/machines.ts';
import { Service } from '../agent/service.ts';
import type { AgentConfig } from '../agent/start.ts';
import type { CheckReport } from '../kvm/protocol.ts';
import { TsvError } from '../model/errors.ts';
import type { Requirement } from '../model/provider.ts';
import { Forwards } from '../net/forwards.ts';
import { Sandbox } from '../net/sandbox.ts';
import { SocketFactory } from '../net/sockets.ts';
import { runStep } from '../provision/runner.ts';
import { connectSsh } from '../ssh/client.ts';
import { readIdentity } from '../ssh/identity.ts';
import { createContainerSshServer } from '../ssh/server.ts';
import { EventLog } from '../state/events.ts';
import { Journal } from '../state/journal.ts';
import { projectPaths, runPaths } from '../state/paths.ts';
import { newState, StateStore } from '../state/store.ts';
import { ProvisionCache } from '../store/cache/cache.ts';
import { signalProcess, waitExit } from '../sys/children.ts';
import { isAlive } from '../sys/process.ts';
import type { UserMap } from '../sys/userns.ts';
import { runKvmCheck } from './kvm-check.ts';
import { builtFile } from './place.ts';
import { sourceOf, withLayers } from './source.ts';

/** The agent, put together: the only place that knows every part. */
export function createAgent(config: AgentConfig) {
  const { projectDir, runDir, storeDir, map } = config;
  const paths = projectPaths(projectDir);
  const run = runPaths(runDir);
  const store = StateStore.open(projectDir, () => newState(projectDir, config.projectName));
  const sandbox = new Sandbox({
    holder: config.holder,
    map,
    projectId: store.current.projectId,
    projectName: store.current.projectName,
    runDir,
  });
  const sockets = new SocketFactory(sandbox.netns, builtFile('parts/sockets-worker.js'));
  const forwards = new Forwards();
  const cache = new ProvisionCache(storeDir, map);
  const places: MachinePlaces = {
    machineDir: paths.machineDir,
    runDir: run.machineDir,
    volumeDir: paths.volumeDir,
    box: (machine, digest, layers) => withLayers(sourceOf({ storeDir, map }, machine, digest), cache.folders(layers)),
  };
  const dial = (host: string, port: number) => sockets.dial(host, port, { timeoutMs: 10_000 });
  const kvm = createKvmProvider({
    launcher: {
      launch: (request) => sandbox.launch(request),
      exited: async (ref) => {
        if (isAlive(ref)) await waitExit(ref.pid);
      },
      kill: (ref, signal) => signalProcess(ref, signalNumbers[signal] ?? 15),
    },
    dialler: { dial: (host, port, options) => sockets.dial(host, port, options) },
    ssh: connectSsh,
    cacheDir: storeDir,
    check: runKvmCheck,
  });
  const providers: Providers = {
    vm: kvm,
    container: createNamespaceProvider({
      map,
      connect: (context, pid) =>
        sandbox.connectContainer(context.machine.name, pid, context.addresses, store.current.networks),
      dial: (netns, port) => sockets.dial('127.0.0.1', port, { netns, timeoutMs: 10_000 }),
      copyProgram: builtFile('parts/copy.js'),
    }),
  };
  const events = new EventLog(projectDir);
  const changes = new Changes();
  const engine = new Engine({
    store,
    sandbox,
    providers,
    places,
    forwards,
    dial,
    happened: (machine, event) => {
      events.append(machine, event);
      changes.tell();
    },
    runStep,
    cache,
  });
  const service = new Service({
    store,
    engine,
    forwards,
    dial,
    providers,
    changes,
    layers: () => cache.keys(),
    journal: () => Journal.open(projectDir),
    writeNote: (note) => writeFileSync(paths.tsfileNote, `${JSON.stringify(note)}\n`, { mode: 0o600 }),
    sshServer: async (machine, transport) => {
      const identity = readIdentity(join(paths.machineDir(machine), 'identity'));
      return createContainerSshServer({
        hostKey: identity.host.privateKey,
        authorizedKey: identity.login.publicKey,
        transport,
        defaultUser: 'root',
      });
    },
  });
  return {
    store,
    engine,
    service,
    socketPath: run.agentSocket,
    /** Lets go of everything without ending any machine. */
    close: async () => {
      await kvm.detach();
      await sockets.close();
      events.close();
    },
  };
}

const signalNumbers: Readonly<Partial<Record<NodeJS.Signals, number>>> = {
  SIGTERM: 15,
  SIGKILL: 9,
  SIGINT: 2,
  SIGHUP: 1,
  SIGSTOP: 19,
  SIGCONT: 18,
};

interface HostParts {
  readonly map: UserMap;
  readonly storeDir: string;
  readonly kvmCheck: () => Promise<CheckReport>;
}

/** Of a provider that runs no machine. */
const unused = () => Promise.reject(new TsvError('TSV_INTERNAL', 'a command without an agent does not run machines'));

const idleKvm = ({ storeDir, kvmCheck }: HostParts) =>
  createKvmProvider({
    launcher: { launch: unused, exited: unused, kill: () => false },
    dialler: { dial: unused },
    ssh: unused,
    cacheDir: storeDir,
    check: kvmCheck,
  });

/** What makes templates for warm starts. */
export const templateMaker = (parts: HostParts): Pick<KvmProvider, 'warm'> => idleKvm(parts);

/** What the providers say of this host. Changes nothing. */
export async function probeProviders(parts: HostParts): Promise<readonly Requirement[]> {
  const namespace = createNamespaceProvider({
    map: parts.map,
    connect: unused,
    dial: unused,
    copyProgram: '',
  });
  return (await Promise.all([idleKvm(parts).probe(), namespace.probe()])).flat();
}
