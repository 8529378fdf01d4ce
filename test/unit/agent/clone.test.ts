import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type CloneParts, cloneMachine, copiedRecord, finishClones } from '../../../src/agent/clone.ts';
import { newRecord, recordOf } from '../../../src/agent/machines.ts';
import { Records } from '../../../src/agent/records.ts';
import { TsvError } from '../../../src/model/errors.ts';
import type { MachineHappening } from '../../../src/model/machine-event.ts';
import type { MachineContext, Provider } from '../../../src/model/provider.ts';
import type { MachineState, State } from '../../../src/model/state.ts';
import { projectPaths } from '../../../src/state/paths.ts';
import { newState, readState, StateStore } from '../../../src/state/store.ts';
import { container } from '../plan/fixtures.ts';

const copy = container('copy', { hostname: 'second', memoryBytes: 1 << 30 });
const never = new AbortController().signal;

/** What copies a file, as providers copy folders. */
const filing = {
  kind: 'container',
  async observe({ dir }: MachineContext) {
    return existsSync(join(dir, 'upper')) ? { state: 'stopped', unexpectedly: false } : { state: 'absent' };
  },
  async clone({ dir }: MachineContext, { folder }: { readonly folder: string }) {
    writeFileSync(join(folder, 'upper'), readFileSync(join(dir, 'upper')));
  },
  async create({ dir }: MachineContext) {
    writeFileSync(join(dir, 'identity'), 'new');
    return { identityFile: join(dir, 'identity') };
  },
} as const;

/** A project with the machine web, which has a file and a finished step. */
async function made(provider: Partial<Record<keyof typeof filing, unknown>> = {}) {
  const dir = mkdtempSync(join(tmpdir(), 'clone-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  const { machineDir, machinesDir, volumeDir } = projectPaths(dir);
  const network = { spec: { name: 'default', mode: 'nat' }, gateway: '10.77.1.1', bridge: 'br0' } as const;
  const state: State = { ...newState(dir, 'shop'), networks: { default: { ...network, subnet: '10.77.1.0/24' } } };
  const web: MachineState = {
    ...newRecord(state, container('web'), 'b1'),
    steps: { nginx: { fingerprint: 'f', doneAt: 't' } },
    provider: { identityFile: join(machineDir('web'), 'identity'), hostKey: 'ssh-ed25519 KEY' },
  };
  const store = StateStore.open(dir, () => ({ ...state, machines: { web } }));
  await store.update((before) => before);
  mkdirSync(machineDir('web'), { recursive: true });
  writeFileSync(join(machineDir('web'), 'upper'), 'kept');
  const events: [string, MachineHappening][] = [];
  const warnings: string[] = [];
  const partsOf = (of: StateStore): CloneParts => {
    const one = { ...filing, ...provider } as unknown as Provider;
    const places = {
      machineDir,
      runDir: (name: string) => join(dir, 'run', name),
      volumeDir,
      box: () => ({ name: 'debian-12', digest: 'b1', user: 'root' }),
    };
    return {
      records: new Records({ store: of, providers: { vm: one, container: one }, places }),
      happened: (machine, event) => void events.push([machine, event]),
    };
  };
  /** A new agent, which knows what is written and nothing else. */
  const next = async () => {
    const reopened = StateStore.open(dir);
    await finishClones(partsOf(reopened), (line) => warnings.push(line));
    return reopened.current;
  };
  const names = () => readdirSync(machinesDir).toSorted();
  return { dir, machineDir, store, parts: partsOf(store), events, warnings, next, names, web };
}

type Made = Awaited<ReturnType<typeof made>>;

function expectCopied({ machineDir, names, web, warnings }: Made, state: State | undefined): void {
  expect(names()).toEqual(['copy', 'web']);
  expect(readFileSync(join(machineDir('copy'), 'upper'), 'utf8')).toBe('kept');
  expect(state?.machines.web).toEqual(web);
  const record = state?.machines.copy;
  expect(record).toMatchObject({ spec: copy, boxDigest: 'b1', steps: web.steps });
  expect(record?.provider).toEqual({ identityFile: join(machineDir('copy'), 'identity') });
  expect(record).not.toHaveProperty('cloning');
  expect(record?.addresses[0]?.address).not.toBe(web.addresses[0]?.address);
  expect(record?.addresses[0]?.mac).not.toBe(web.addresses[0]?.mac);
  expect(warnings).toEqual([]);
}

function expectNothing({ names, web }: Made, state: State | undefined): void {
  expect(names()).toEqual(['web']);
  expect(state?.machines).toEqual({ web });
}

/** As far as a clone got that was killed. */
async function half({ store, machineDir, web }: Made): Promise<{ readonly staging: string }> {
  const staging = `${machineDir('copy')}.0123abcd`;
  mkdirSync(staging);
  writeFileSync(join(staging, 'upper'), 'kept');
  await store.update((state) => ({
    ...state,
    machines: { ...state.machines, copy: { ...copiedRecord(state, web, copy), cloning: '0123abcd' } },
  }));
  return { staging };
}

describe('a copy of a machine', () => {
  test('has its files and finished steps, and is another one in all else', async () => {
    const project = await made();
    await cloneMachine(project.parts, 'web', copy, never);
    expectCopied(project, project.store.current);
    expectCopied(project, readState(project.dir));
    expect(project.events).toEqual([['copy', { type: 'cloned', from: 'web' }]]);
    expect(await project.next()).toEqual(readState(project.dir));
  });

  test('is on the networks of the other one where its own are not made yet', async () => {
    const { store, parts } = await made();
    await cloneMachine(parts, 'web', { ...copy, networks: [{ network: 'later' }] }, never);
    const { spec, addresses } = recordOf(store.current, 'copy');
    expect(spec.networks).toEqual([{ network: 'default' }]);
    expect(addresses).toHaveLength(1);
  });

  test('is none where the agent was killed while it was made, and what is there of it is removed', async () => {
    const project = await made();
    const staging = `${project.machineDir('copy')}.0123abcd`;
    mkdirSync(staging);
    writeFileSync(join(staging, 'upper'), 'ke');
    expectNothing(project, await project.next());
  });

  test('is finished by the next agent where the one before was killed before its folder had its name', async () => {
    const project = await made();
    await half(project);
    expectCopied(project, await project.next());
    expectCopied(project, readState(project.dir));
  });

  test('is finished by the next agent where the one before was killed before the state knew of that', async () => {
    const project = await made();
    const { staging } = await half(project);
    renameSync(staging, project.machineDir('copy'));
    expectCopied(project, await project.next());
  });

  test('is forgotten by the next agent where its files are gone', async () => {
    const project = await made();
    const { staging } = await half(project);
    rmSync(staging, { recursive: true });
    expectNothing(project, await project.next());
  });

  test('stays unfinished, with its files, where the next agent cannot finish it either', async () => {
    const project = await made();
    const { staging } = await half(project);
    mkdirSync(join(project.machineDir('copy'), 'volumes'), { recursive: true });
    expect((await project.next()).machines.copy?.cloning).toBe('0123abcd');
    expect(readFileSync(join(staging, 'upper'), 'utf8')).toBe('kept');
    expect(project.warnings).toEqual([expect.stringMatching(/^copy: its copy is not in its place: ENOTEMPTY/)]);
  });

  test('leaves nothing where copying fails, or its keys cannot be made', async () => {
    const full = new TsvError('TSV_CLONE', 'no space left');
    const fails = async ({ folder, dir }: { readonly folder?: string; readonly dir?: string }) => {
      writeFileSync(join(folder ?? dir ?? '', 'part'), 'half');
      throw full;
    };
    for (const provider of [{ clone: (_: unknown, target: { folder: string }) => fails(target) }, { create: fails }]) {
      const project = await made(provider);
      await expect(cloneMachine(project.parts, 'web', copy, never)).rejects.toBe(full);
      expectNothing(project, project.store.current);
      expectNothing(project, readState(project.dir));
      expect(project.events).toEqual([]);
    }
  });

  test('leaves nothing where it is interrupted', async () => {
    const abort = new AbortController();
    const project = await made({
      clone: async (context: MachineContext, target: { folder: string }) => {
        await filing.clone(context, target);
        abort.abort();
      },
    });
    await expect(cloneMachine(project.parts, 'web', copy, abort.signal)).rejects.toMatchObject({ name: 'AbortError' });
    expectNothing(project, readState(project.dir));
  });

  test('never takes the place of files that are there, nor is one of a machine without files', async () => {
    const project = await made();
    mkdirSync(join(project.machineDir('copy'), 'volumes'), { recursive: true });
    await expect(cloneMachine(project.parts, 'web', copy, never)).rejects.toMatchObject({
      code: 'TSV_USAGE',
      message: 'there are files of an earlier copy',
    });
    rmSync(project.machineDir('copy'), { recursive: true });
    rmSync(join(project.machineDir('web'), 'upper'));
    await expect(cloneMachine(project.parts, 'web', copy, never)).rejects.toMatchObject({ code: 'TSV_USAGE' });
    expectNothing(project, readState(project.dir));
  });
});
