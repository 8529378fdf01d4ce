import { expect, test } from 'vitest';
import { loadOneOff } from '../../../src/config/index.ts';
import type { Machine } from '../../../src/model/project.ts';
import { boxes, failure, folder, machine } from './support.ts';

const beside = (tsfile: string, image: string) =>
  loadOneOff(folder({ 'Tsfile.yaml': tsfile }), image, { env: {}, boxes });

const tsfile = `
version: 1
defaults: { memory: 64M, networks: [back], env: { LANG: C }, capabilities: { drop: [CHOWN] } }
networks: { back: { mode: isolated } }
machines:
  nginx: { image: "nginx:1" }
`;

test('a container beside those of the Tsfile is what one would be there with nothing but this image', async () => {
  const { project, machine: oneOff } = await beside(tsfile, 'nginx:1');
  const same = ({ name: _, group: _1, hostname: _2, ...rest }: Machine) => rest;
  expect(same(oneOff)).toEqual({ ...same(machine(project, 'nginx')), oneOff: true });
  expect(project.machines.map(({ name }) => name)).toEqual(['nginx']);
  expect(oneOff).toMatchObject({ env: { LANG: 'C' }, memoryBytes: 64 << 20, networks: [{ network: 'back' }] });
});

test('a container beside those of the Tsfile may be of a box', async () => {
  const { machine: oneOff } = await beside('version: 1\nmachines: { a: { image: d } }\n', 'debian-12');
  expect(oneOff).toMatchObject({ box: 'debian-12', networks: [{ network: 'default' }] });
  expect(oneOff.image).toBeUndefined();
});

test('what is no name of an image is told as that, with the box that is meant', async () => {
  const error = await failure(beside(tsfile, 'Debian-12'));
  expect(error).toMatchObject({ code: 'TSV_USAGE', hint: expect.stringContaining('debian-12') });
});
