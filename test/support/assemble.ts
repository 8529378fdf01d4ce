import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Whether binutils are installed: no test rests on them, but where they are, machine code is held against its source. */
export const hasAssembler = (() => {
  try {
    execFileSync('as', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();

/** The machine code of an assembly file, in hex. */
export function assemble(source: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'assemble-'));
  try {
    const [object, binary] = [join(folder, 'code.o'), join(folder, 'code.bin')];
    execFileSync('as', ['-o', object, source]);
    execFileSync('objcopy', ['-O', 'binary', '-j', '.text', object, binary]);
    return readFileSync(binary).toString('hex');
  } finally {
    rmSync(folder, { recursive: true });
  }
}
