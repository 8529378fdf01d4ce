import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { partDigest } from '../../../src/store/box/digest.ts';
import type { HostApt } from '../../../src/store/box/host-apt.ts';
import { partPaths } from '../../../src/store/box/layout.ts';
import { boxRef, type PartMetadata, parseMetadata, readMetadata } from '../../../src/store/box/metadata.ts';
import { recipeNames } from '../../../src/store/box/names.ts';
import { packageProgress } from '../../../src/store/box/progress.ts';
import { parseRecipe, readRecipe } from '../../../src/store/box/recipe.ts';
import { requirePrograms } from '../../../src/store/box/requirements.ts';
import type { UserMap } from '../../../src/sys/userns.ts';

const map: UserMap = {
  rooted: true,
  uids: [{ inside: 0, outside: 1_000_000, count: 65536 }],
  gids: [{ inside: 0, outside: 1_000_000, count: 65536 }],
};
const apt: HostApt = { sources: 'Types: deb\n', settings: '', buildEnv: {}, authorities: {} };
const yaml = `version: 1
description: a test
suite: bookworm
user: tsv
container: { packages: [curl] }
vm: { packages: [udev], disk: 8GiB, cmdline: root=/dev/vda }
`;

let boxes: string;
beforeEach(() => {
  boxes = mkdtempSync(join(tmpdir(), 'tsv-boxes-'));
  for (const kind of ['container', 'vm']) mkdirSync(join(boxes, 'one', kind), { recursive: true });
  writeFileSync(join(boxes, 'one', 'box.yaml'), yaml);
  writeFileSync(join(boxes, 'one', 'container', 'setup.sh'), 'true\n');
  writeFileSync(join(boxes, 'one', 'vm', 'setup.sh'), 'true\n');
});
afterEach(() => rmSync(boxes, { recursive: true }));

const digests = async (over: { map?: UserMap; apt?: HostApt } = {}) => {
  const recipe = await readRecipe(boxes, 'one');
  return (['container', 'vm'] as const).map((kind) => partDigest(recipe, kind, over.map ?? map, over.apt ?? apt));
};

describe('the digest of a part', () => {
  it('stays the same while nothing changes', async () => {
    expect(await digests()).toEqual(await digests());
  });

  it('changes for both parts with a file of the container', async () => {
    const [container, vm] = await digests();
    writeFileSync(join(boxes, 'one', 'container', 'setup.sh'), 'false\n');
    const after = await digests();
    expect(after[0]).not.toBe(container);
    expect(after[1]).not.toBe(vm);
  });

  it('changes for the VM alone with a file of the VM', async () => {
    const [container, vm] = await digests();
    writeFileSync(join(boxes, 'one', 'vm', 'more'), '');
    const after = await digests();
    expect(after[0]).toBe(container);
    expect(after[1]).not.toBe(vm);
  });

  it('does not change with the description', async () => {
    const before = await digests();
    writeFileSync(join(boxes, 'one', 'box.yaml'), yaml.replace('a test', 'another'));
    expect(await digests()).toEqual(before);
  });

  it("changes with the user map and with the host's sources", async () => {
    const [before] = await digests();
    const other = { ...map, uids: [{ inside: 0, outside: 1000, count: 1 }] };
    expect((await digests({ map: other }))[0]).not.toBe(before);
    expect((await digests({ apt: { ...apt, sources: 'Types: deb-src\n' } }))[0]).not.toBe(before);
  });
});

describe('a recipe', () => {
  it('is listed when its folder has a valid name and a box.yaml', () => {
    mkdirSync(join(boxes, '.hidden'));
    writeFileSync(join(boxes, '.hidden', 'box.yaml'), yaml);
    mkdirSync(join(boxes, 'empty'));
    expect(recipeNames(boxes)).toEqual(['one']);
    expect(recipeNames(join(boxes, 'absent'))).toEqual([]);
  });

  it('is read with its sizes in bytes', async () => {
    const recipe = await readRecipe(boxes, 'one');
    expect(recipe.vm).toEqual({ packages: ['udev'], diskBytes: 8 * 2 ** 30, cmdline: 'root=/dev/vda', warm: false });
  });

  it.each(['two', '../one', '', 'One'])(
    'that does not exist (%j) is TSV_UNKNOWN_BOX and names those that do',
    async (name) => {
      await expect(readRecipe(boxes, name)).rejects.toMatchObject({
        code: 'TSV_UNKNOWN_BOX',
        hint: expect.stringContaining('one'),
      });
    },
  );

  it('reports all of its mistakes at once', async () => {
    const text = 'version: 2\ndescription: x\nsuite: "a b"\ncontainer: { packages: ["curl; reboot"], pakages: [] }\n';
    const error = await parseRecipe(text, { name: 'x', dir: '/x', file: 'box.yaml' }).catch((e: unknown) => e);
    expect(error).toMatchObject({ code: 'TSV_BOX_BUILD' });
    const { details } = error as { details: string[] };
    for (const word of ['version', 'suite', 'user', 'container: packages', "unknown key 'pakages'"]) {
      expect(
        details.some((line) => line.includes(word)),
        word,
      ).toBe(true);
    }
  });

  it.each(['- a list', 'text', '', 'a: &x [1]\nb: *x', '{'])(
    'that is not a mapping of these words (%j) is TSV_BOX_BUILD',
    async (text) => {
      await expect(parseRecipe(text, { name: 'x', dir: '/x', file: 'box.yaml' })).rejects.toMatchObject({
        code: 'TSV_BOX_BUILD',
      });
    },
  );
});

describe('the metadata of a part', () => {
  const metadata: PartMetadata = {
    version: 1,
    name: 'one',
    kind: 'vm',
    digest: 'ab',
    user: 'tsv',
    bytes: 1,
    vm: { cmdline: 'quiet', virtualBytes: 2 },
  };

  it('gives a BoxRef with absolute paths', () => {
    expect(boxRef('/s/vm-ab', parseMetadata(JSON.stringify(metadata), 'f'))).toEqual({
      name: 'one',
      digest: 'ab',
      user: 'tsv',
      disk: { path: '/s/vm-ab/disk.raw', format: 'raw', virtualBytes: 2 },
      kernel: '/s/vm-ab/kernel',
      initrd: '/s/vm-ab/initrd',
      cmdline: 'quiet',
    });
  });

  it('is absent while the part is not built', () => {
    expect(readMetadata(join(boxes, 'one'))).toBeUndefined();
  });

  it.each([
    '',
    '{}',
    'null',
    '[1]',
    JSON.stringify({ ...metadata, vm: undefined }),
    JSON.stringify({ ...metadata, version: 2 }),
  ])('that is damaged (%s) is an error, not an absent box', (text) => {
    expect(() => parseMetadata(text, '/s/box.json')).toThrow(
      expect.objectContaining({ code: 'TSV_BOX_BUILD', message: expect.stringContaining('/s/box.json') }),
    );
  });
});

describe('building', () => {
  it('keeps the names of finished, unfinished and locked parts apart', () => {
    const paths = partPaths('/s', 'one', 'vm', '0123456789abcdef0123');
    expect(paths.part).toBe('vm-0123456789abcdef');
    for (const name of [paths.part, paths.lock.slice(paths.boxDir.length + 1)])
      expect(name.startsWith(paths.unfinished)).toBe(false);
  });

  it('names every missing program and the one command that installs them', () => {
    const missing = ['mmdebstrap', 'mke2fs', 'newuidmap'];
    const look = () => requirePrograms('vm', { ...map, rooted: false }, (program) => !missing.includes(program));
    expect(look).toThrow(
      expect.objectContaining({ code: 'TSV_HOST_MISSING', hint: 'sudo apt-get install mmdebstrap e2fsprogs uidmap' }),
    );
    expect(() => requirePrograms('container', map, (program) => !missing.slice(1).includes(program))).not.toThrow();
  });

  it('tells its progress in packages', () => {
    const told: string[] = [];
    const listen = packageProgress('base system', (text) => told.push(text));
    const lines = [
      'Get:1 http://m x',
      'Get:2 http://m y',
      '0 upgraded, 2 newly installed, 0 to remove',
      'Unpacking a',
      'Setting up a (1) ...',
      'Setting up b (1) ...',
    ];
    for (const line of lines) listen(line);
    expect(told).toEqual([
      'base system: downloading',
      'base system: 0/2 packages',
      'base system: 1/2 packages',
      'base system: 2/2 packages',
    ]);
  });
});
