import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, realpathSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isFolder, rememberedEntries, rememberedFolder } from './remembered.ts';

/**
 * To be called before a project takes an image or a box from the store: what it uses is then kept.
 * @param projectDir absolute
 */
export function rememberProject(store: string, projectDir: string): void {
  const real = realpathSync(projectDir);
  const file = join(rememberedFolder(store), createHash('sha256').update(real).digest('hex').slice(0, 32));
  try {
    if (readFileSync(file, 'utf8') === real) return;
  } catch {
    // Not there yet, or torn by a kill: written now.
  }
  mkdirSync(rememberedFolder(store), { recursive: true, mode: 0o700 });
  const temporary = `${file}.${process.pid}.tmp`;
  writeFileSync(temporary, real, { mode: 0o600 });
  renameSync(temporary, file);
}

/** Forgets the folders that are gone, and what a killed writer left. */
export function forgetLostProjects(store: string): void {
  for (const { file, dir } of rememberedEntries(store)) if (!isFolder(dir)) rmSync(file, { force: true });
}
