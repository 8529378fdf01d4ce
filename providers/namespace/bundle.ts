import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { OciConfig } from '../../src/oci/spec.ts';

const name = 'config.json';
const next = `${name}.new`;

/** In a container's folder; the second only while the first is written, and after a kill. */
export const configFiles: readonly string[] = [name, next];

/** What a container that runs was started with: the Tsfile's image and profiles may be others by now. */
export function readConfig(dir: string): OciConfig | undefined {
  const file = join(dir, name);
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as OciConfig) : undefined;
}

/** Whole or not at all: commands in the container read it at any time. */
export function writeConfig(dir: string, config: OciConfig): void {
  writeFileSync(join(dir, next), `${JSON.stringify(config, null, 2)}\n`, { mode: 0o600 });
  renameSync(join(dir, next), join(dir, name));
}
