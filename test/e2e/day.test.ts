import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { packageDir, tsvProgram } from '../support/cli.ts';
import { fixture } from '../support/fixture.ts';

const page = readFileSync(join(packageDir, 'docs', 'living.md'), 'utf8');
const day = page.slice(page.indexOf('## A day'), page.indexOf('\n## ', page.indexOf('## A day') + 1));
const blocks = (language: string): string[] =>
  [...day.matchAll(new RegExp(`^\`\`\`${language}\n([\\s\\S]*?)^\`\`\``, 'gm'))].map(([, text = '']) => text);

/** `$ command` and what it prints, `…` standing for anything and a space for any white space. */
const commands = blocks('console').flatMap((block) =>
  block
    .split(/^\$ /m)
    .slice(1)
    .map((part) => {
      const [command = '', ...lines] = part.trimEnd().split('\n');
      return { command, expected: lines.join('\n') };
    }),
);

const pattern = (expected: string): RegExp => {
  const literal = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replace(/\s+/g, '\\s+');
  return new RegExp(`^${expected.split('…').map(literal).join('[\\s\\S]*')}$`);
};

test('the day of docs/living.md goes as it says, from the morning to the evening', async () => {
  expect(commands.length).toBeGreaterThan(15);
  const project = fixture({ 'Tsfile.yaml': blocks('yaml')[0] ?? '' });
  mkdirSync(join(project.dir, 'data'));
  mkdirSync(join(project.dir, 'bin'));
  const program = join(project.dir, 'bin', 'tsv');
  writeFileSync(program, `#!/bin/sh\nexec ${process.execPath} ${tsvProgram} "$@"\n`);
  chmodSync(program, 0o755);
  for (const { command, expected } of commands) {
    const { code, stdout, stderr } = await project.run(['sh', '-c', `PATH="$PWD/bin:$PATH"; ${command}`]);
    expect(code, `${command}\n${stdout}${stderr}`).toBe(0);
    expect(stdout.trim(), command).toMatch(pattern(expected));
  }
});
