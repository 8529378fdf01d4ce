import { tmpdir } from 'node:os';
import { assertBuilt, startTsv } from './cli.ts';

/** Before the first test that needs machines: boxes are built once, with the output shown, and not within a test's time. */
export default async function prepare(): Promise<void> {
  assertBuilt();
  const build = startTsv(tmpdir(), ['box', 'build', 'debian-12'], { input: '', timeoutMs: 900_000 });
  const { code, stderr } = await build.result;
  if (code !== 0) throw new Error(`tsv box build debian-12: exit code ${code}\n${stderr}`);
}
