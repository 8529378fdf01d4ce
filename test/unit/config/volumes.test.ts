import { describe, expect, test } from 'vitest';
import { folder, headlines, load, machine, mistakes } from './support.ts';

const file = (volumes: string, ...uses: string[]): string =>
  `version: 1\nvolumes: ${volumes}\nmachines:\n${uses.map((use, i) => `  m${i}: { image: d, volumes: ${use} }\n`).join('')}`;

describe('volumes of a Tsfile', () => {
  test('are those of the top, and each machine has its own places for them', async () => {
    const project = await load(
      file(
        '{ data: , old_DB.1: { keep: true } }',
        '["data:/var//lib/data", "old_DB.1:/old:ro", "data:/again:rw"]',
        '[{ name: data, guest: /d, readonly: true }]',
      ),
    );
    expect(project.volumes).toEqual([
      { name: 'data', keep: false },
      { name: 'old_DB.1', keep: true },
    ]);
    expect(machine(project, 'm0').volumes).toEqual([
      { name: 'data', guest: '/var/lib/data', readonly: false },
      { name: 'old_DB.1', guest: '/old', readonly: true },
      { name: 'data', guest: '/again', readonly: false },
    ]);
    expect(machine(project, 'm1').volumes).toEqual([{ name: 'data', guest: '/d', readonly: true }]);
  });

  test('are none where none is written', async () => {
    const project = await load('version: 1\nmachines:\n  a: { image: d }\n');
    expect(project).not.toHaveProperty('volumes');
    expect(machine(project, 'a')).not.toHaveProperty('volumes');
  });

  test('that nobody declared or nobody uses are mistakes, with the nearest name', async () => {
    expect(await mistakes(file('{ data: , other: }', '["dta:/d", "data:/e", "xyz:/f"]'))).toEqual([
      expect.stringMatching(/^Tsfile\.yaml:2:20: no machine uses the volume `other`[\s\S]*until `tsv destroy`$/),
      expect.stringMatching(/^Tsfile\.yaml:4:29: there is no volume `dta`[\s\S]*did you mean `data`\?$/),
      expect.stringMatching(/^Tsfile\.yaml:4:50: there is no volume `xyz`[\s\S]*volumes: \{ xyz: \}$/),
    ]);
  });

  test.each([
    ['"./site:/srv"', '4:29: "./site:/srv" is not a volume (NAME:PATH'],
    ['"data:relative"', '4:29: "data:relative" is not a volume (NAME:PATH'],
    ['"data:/a:rx"', '4:29: "data:/a:rx" is not a volume'],
    ['"data:/"', '4:29: / of a container cannot be replaced by a volume'],
    ['"data:/proc/x"', '4:29: /proc/x of a container cannot be replaced by a volume'],
    ['"data:/a/../b"', '4:29: the path /a/../b goes through `..`'],
    ['{ name: data }', 'an item of `volumes` needs `guest`'],
  ])('are not used as %s', async (use, said) => {
    expect((await headlines(file('{ data: }', `[${use}, "data:/ok"]`)))[0]).toContain(said);
  });

  test('and shares and folders in memory cannot be in one place', async () => {
    const dir = folder();
    const text = `version: 1
volumes: { data: }
machines:
  a:
    image: d
    share: [{ host: "${dir}", guest: /a }]
    volumes: ["data:/a", "data:/b", "data:/b/"]
    tmpfs: [/b]
`;
    expect(await headlines(text)).toEqual([
      '7:15: a share is at /a, too',
      '7:37: two volumes are at /b',
      '8:13: a volume is at /b, too',
    ]);
  });

  test('have names that can be those of folders', async () => {
    for (const name of ['"../x"', '".x"', '"a/b"', '""', 'a'.repeat(64)])
      expect(
        (await headlines(`version: 1\nvolumes: { ${name}: }\nmachines: { a: { image: d } }\n`)).join('\n'),
      ).toContain('not a volume name');
  });

  test('are not for virtual machines', async () => {
    const said = await headlines(
      'version: 1\nvolumes: { d: }\nmachines:\n  a: { box: debian-12, volumes: ["d:/d"] }\n',
    );
    expect(said).toEqual(['4:24: volumes are for containers; a VM cannot mount them yet']);
  });
});
