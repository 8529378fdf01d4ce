import { expect, test } from 'vitest';
import schema from '../../../src/config/tsfile.schema.json' with { type: 'json' };
import { usualShares } from '../../../src/model/project.ts';
import { headlines, load, machine, machines } from './support.ts';

const read = async (keys: string) => machine(await load(machines(`  a: { image: d, ${keys} }\n`)), 'a');

test('shares of CPU time and limits of io are read; what is as without them is left out', async () => {
  expect(
    await read('cpu_shares: 512, io: { read_bps: 20M, write_bps: 4096, read_iops: 5, write_iops: 6 }'),
  ).toMatchObject({
    cpuShares: 512,
    io: { readBytesPerSecond: 20 * 2 ** 20, writeBytesPerSecond: 4096, readsPerSecond: 5, writesPerSecond: 6 },
  });
  expect((await read('io: { write_iops: 6 }')).io).toEqual({ writesPerSecond: 6 });
  const plain = await read(`cpu_shares: ${schema.$defs.machine.properties.cpu_shares.default}`);
  expect(plain).not.toHaveProperty('cpuShares');
  expect(plain).not.toHaveProperty('io');
  expect(schema.$defs.machine.properties.cpu_shares.default).toBe(usualShares);
});

test('what is out of their range is said', async () => {
  const said = (keys: string) => headlines(machines(`  a: { image: d, ${keys} }\n`));
  expect(await said('cpu_shares: 1')).toEqual(['3:30: `cpu_shares` must be at least 2, not 1']);
  expect(await said('io: {}')).toEqual(['3:18: `io` must not be empty']);
  expect(await said('io: { read_iops: 0 }')).toEqual(['3:35: `read_iops` must be at least 1, not 0']);
  expect(await said('io: { read_bps: 0K }')).toEqual(['3:34: a rate is at least 1 byte in a second']);
});
