import { describe, expect, test } from 'vitest';
import { fixture } from '../support/fixture.ts';

const tsfile = (web: string) => `
version: 1
defaults: { memory: 64M }
networks: { default: { mode: isolated } }
machines:
  web:
    image: debian-12
    provision:
${web}
  other: { image: debian-12 }
`;

describe('provisioning', () => {
  test('runs a step once, always, on change or never, as the Tsfile says', async () => {
    const steps = (text: string) =>
      tsfile(`
      - { name: first, shell: { inline: "echo first >>/log" } }
      - { name: each, shell: { inline: "echo each >>/log" }, run: always }
      - { name: changing, shell: provisioning/changing.sh, args: [${text}], run: on-change }
      - { name: asked, shell: { inline: "echo asked >>/log" }, run: never }`);
    const project = fixture({ 'Tsfile.yaml': steps('a'), 'provisioning/changing.sh': 'echo "changing $1" >>/log\n' });
    const log = async () => {
      const { stdout } = await project.ok('exec web -- cat /log');
      await project.ok('exec web -- rm /log');
      return stdout.trim().split('\n');
    };
    await project.ok('up');
    expect(await log()).toEqual(['first', 'each', 'changing a']);
    await project.ok('up');
    expect(await log()).toEqual(['each']);
    project.write('Tsfile.yaml', steps('b'));
    await project.ok('up');
    expect(await log()).toEqual(['each', 'changing b']);
    project.write('provisioning/changing.sh', 'echo "changed $1" >>/log\n');
    await project.ok('up');
    expect(await log()).toEqual(['each', 'changed b']);
    await project.ok('up --provision');
    expect(await log()).toEqual(['first', 'each', 'changed b']);
    await project.ok('provision web --only asked');
    expect(await log()).toEqual(['asked']);
    await project.ok('reload --no-provision');
    expect((await project.tsv('exec web -- cat /log')).code).toBe(1);
  });

  test('names the step that failed, its exit code and output, and resumes there', async () => {
    const project = fixture({
      'Tsfile.yaml': tsfile(`
      - { name: before, shell: { inline: "echo before >>/log" } }
      - { name: middle, shell: provisioning/middle.sh }
      - { name: after, shell: { inline: "echo after >>/log" } }`),
      'provisioning/middle.sh': 'echo "no such luck"; [ -e /allowed ] || exit 7; echo middle >>/log\n',
    });
    const failed = await project.tsv('up');
    expect(failed.code).toBe(1);
    expect(failed.stderr).toContain('middle');
    expect(failed.stderr).toContain('provisioning/middle.sh');
    expect(failed.stderr).toMatch(/exit code 7|code 7/);
    expect(failed.stderr).toContain('no such luck');
    expect(await project.states()).toEqual({ web: 'running', other: 'running' });
    expect(Object.keys(project.state()?.machines.web?.steps ?? {})).toEqual(['before']);

    await project.ok('exec web -- touch /allowed');
    await project.ok('up');
    expect((await project.ok('exec web -- cat /log')).stdout).toBe('before\nmiddle\nafter\n');
  });

  test('prefixes output by machine, and gives scripts arguments, variables, a folder and an unprivileged user', async () => {
    const project = fixture({
      'Tsfile.yaml': tsfile(`
      - name: told
        shell: { inline: 'echo "$(id -un) $PWD $1 $COLOUR"', args: ["two words"], env: { COLOUR: "dark blue" }, cwd: /tmp, privileged: false }`),
    });
    const { stderr } = await project.ok('up');
    expect(stderr).toMatch(/^web +\| tsv \/tmp two words dark blue$/m);
  });

  test('copies files and folders with mode and owner', async () => {
    const project = fixture({
      'Tsfile.yaml': tsfile(`
      - { file: { source: conf/one, destination: /etc/one, mode: "0640", owner: "tsv:tsv" } }
      - { file: { source: conf, destination: /srv/conf } }`),
      'conf/one': 'one\n',
      'conf/deep/two': 'two\n',
    });
    await project.ok('up');
    const { stdout } = await project.ok([
      'exec',
      'web',
      '--',
      'sh',
      '-c',
      'stat -c "%a %U:%G" /etc/one; cat /etc/one /srv/conf/one /srv/conf/deep/two',
    ]);
    expect(stdout).toBe('640 tsv:tsv\none\none\ntwo\n');
  });

  test('does not stop the other machines when one fails, and skips those that depend on it', async () => {
    const project = fixture({
      'Tsfile.yaml': `${tsfile('      - { name: broken, shell: { inline: "exit 3" } }')}
  third: { image: debian-12, depends_on: [web] }
`,
    });
    const { code, stderr } = await project.tsv('up');
    expect(code).toBe(1);
    expect(stderr).toMatch(/third.*skipped/);
    expect(await project.states()).toMatchObject({ web: 'running', other: 'running' });
    expect((await project.states()).third).not.toBe('running');
  });
});
