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
import { chooseAddresses, newRecord, recordOf } from '../../../src/agent/machines.ts';
import { finishRenames, renamedRecord, renameMachine, replaced } from '../../../src/agent/rename.ts';
import type { MachineHappening } from '../../../src/model/machine-event.ts';
import type { MachineState, State } from '../../../src/model/state.ts';
import { projectPaths } from '../../../src/state/paths.ts';
import { newState, readState, StateStore } from '../../../src/state/store.ts';
import { container } from '../plan/fixtures.ts';

const front = container('front', { hostname: 'www' });

/** A project with the machines web and db, which depends on it; each has a folder. */
async function made() {
  const dir = mkdtempSync(join(tmpdir(), 'rename-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  const { machineDir } = projectPaths(dir);
  const network = { spec: { name: 'default', mode: 'nat' }, gateway: '10.77.1.1', bridge: 'br0' } as const;
  const networks = { default: { ...network, subnet: '10.77.1.0/24' } };
  const db = container('db', { dependsOn: [{ machine: 'web', condition: 'started' }] });
  let state: State = { ...newState(dir, 'shop'), networks };
  for (const spec of [container('web'), db]) {
    const record: MachineState = {
      ...newRecord(state, spec, 'b1'),
      steps: { nginx: { fingerprint: 'f', doneAt: 't' } },
      provider: { identityFile: join(machineDir(spec.name), 'identity/login'), hostKey: 'ssh-ed25519 KEY' },
    };
    state = { ...state, machines: { ...state.machines, [spec.name]: record } };
  }
  const store = StateStore.open(dir, () => state);
  await store.update((before) => before);
  for (const name of ['web', 'db']) {
    mkdirSync(join(machineDir(name), 'upper'), { recursive: true });
    writeFileSync(join(machineDir(name), 'upper', 'kept'), name);
    mkdirSync(join(dir, 'run', name), { recursive: true });
  }
  mkdirSync(join(dir, '.ts-vm/disks/web'), { recursive: true });
  writeFileSync(join(dir, '.ts-vm/disks/web/data.img'), 'data');
  const events: [string, MachineHappening][] = [];
  const warnings: string[] = [];
  const parts = {
    store,
    places: { machineDir, runDir: (name: string) => join(dir, 'run', name) },
    happened: (machine: string, event: MachineHappening) => void events.push([machine, event]),
  };
  /** A new agent, which knows what is written and nothing else. */
  const next = async () => {
    const reopened = StateStore.open(dir);
    await finishRenames({ ...parts, store: reopened }, (text) => warnings.push(text));
    return reopened.current;
  };
  const half = renamedRecord(recordOf(state, 'web'), front, { old: machineDir('web'), new: machineDir('front') });
  return { dir, machineDir, store, events, warnings, parts, next, half };
}

type Made = Awaited<ReturnType<typeof made>>;

function expectRenamed({ dir, machineDir, events, warnings }: Made, state: State | undefined, before: State): void {
  const record = state?.machines.front;
  const { spec, provider, movingFrom, ...kept } = record ?? recordOf(before, 'web');
  const old = recordOf(before, 'web');
  expect(spec).toEqual({ ...old.spec, name: 'front', group: 'front', hostname: 'www' });
  expect(provider).toEqual({ ...old.provider, identityFile: join(machineDir('front'), 'identity/login') });
  expect(movingFrom).toBeUndefined();
  expect(kept).toMatchObject({ addresses: old.addresses, steps: old.steps, createdAt: old.createdAt });
  expect(Object.keys(state?.machines ?? {})).toEqual(['front', 'db']);
  expect(state?.machines.db?.spec.dependsOn).toEqual([{ machine: 'front', condition: 'started' }]);
  expect(readFileSync(join(machineDir('front'), 'upper', 'kept'), 'utf8')).toBe('web');
  expect(readdirSync(projectPaths(dir).machinesDir).toSorted()).toEqual(['db', 'front']);
  expect(readdirSync(join(dir, '.ts-vm/disks'), { recursive: true }).toSorted()).toEqual(['front', 'front/data.img']);
  expect(readdirSync(join(dir, 'run'))).toEqual(['db']);
  expect(events).toEqual([['front', { type: 'renamed', from: 'web' }]]);
  expect(warnings).toEqual([]);
}

describe('a machine that is renamed', () => {
  test('is the same in all but its name, in state, files and what others depend on', async () => {
    const project = await made();
    const before = project.store.current;
    await renameMachine(project.parts, 'web', front);
    expectRenamed(project, project.store.current, before);
    expectRenamed(project, readState(project.dir), before);
    expect(await project.next()).toEqual(readState(project.dir));
  });

  test('is finished by the next agent where the one before was killed before the folder had its name', async () => {
    const project = await made();
    const before = project.store.current;
    await project.store.update((state) => replaced(state, 'web', project.half));
    expectRenamed(project, await project.next(), before);
    expectRenamed(project, readState(project.dir), before);
  });

  test('is finished by the next agent where the one before was killed before the state knew of that', async () => {
    const project = await made();
    const before = project.store.current;
    await project.store.update((state) => replaced(state, 'web', project.half));
    renameSync(project.machineDir('web'), project.machineDir('front'));
    expectRenamed(project, await project.next(), before);
  });

  test('stays what it was where its folder cannot be moved', async () => {
    const project = await made();
    const before = project.store.current;
    const { machineDir } = project;
    const nowhere = (name: string) => (name === 'front' ? join(project.dir, 'nowhere', name) : machineDir(name));
    const parts = { ...project.parts, places: { ...project.parts.places, machineDir: nowhere } };
    await expect(renameMachine(parts, 'web', front)).rejects.toThrow(/ENOENT/);
    for (const state of [project.store.current, readState(project.dir)])
      expect(state?.machines).toEqual(before.machines);
    expect(existsSync(join(machineDir('web'), 'upper', 'kept'))).toBe(true);
    expect(project.events).toEqual([]);
  });

  test('stays what it was where its disks cannot be moved', async () => {
    const project = await made();
    const before = project.store.current;
    const { machineDir } = project;
    mkdirSync(join(project.dir, 'other', 'machines'), { recursive: true }); // and no other/disks
    const other = (name: string) => (name === 'front' ? join(project.dir, 'other/machines/front') : machineDir(name));
    const parts = { ...project.parts, places: { ...project.parts.places, machineDir: other } };
    await expect(renameMachine(parts, 'web', front)).rejects.toThrow(/ENOENT/);
    expect(project.store.current.machines).toEqual(before.machines);
    expect(existsSync(join(machineDir('web'), 'upper', 'kept'))).toBe(true);
    expect(existsSync(join(project.dir, '.ts-vm/disks/web/data.img'))).toBe(true);
  });

  test('never takes the place of files that are there', async () => {
    const project = await made();
    const before = project.store.current;
    mkdirSync(join(project.machineDir('front'), 'volumes'), { recursive: true });
    await expect(renameMachine(project.parts, 'web', front)).rejects.toMatchObject({
      code: 'TSV_USAGE',
      message: 'there are files of an earlier front',
    });
    expect(project.store.current.machines).toEqual(before.machines);
    // Half way there, too: it is told, and the state still knows.
    await project.store.update((state) => replaced(state, 'web', project.half));
    expect((await project.next()).machines.front?.movingFrom).toBe('web');
    expect(project.warnings).toEqual([
      expect.stringMatching(/^front: its files are still in the folder of web: ENOTEMPTY/),
    ]);
  });

  test('keeps its address and its MAC at the next start, and a new machine of its old name gets others', async () => {
    const { store, parts } = await made();
    const { addresses } = recordOf(store.current, 'web');
    await renameMachine(parts, 'web', front);
    expect(chooseAddresses(store.current, front)).toEqual(addresses);
    const [other] = newRecord(store.current, container('web'), 'b1').addresses;
    expect(other?.address).not.toBe(addresses[0]?.address);
    expect(other?.mac).not.toBe(addresses[0]?.mac);
  });
});
