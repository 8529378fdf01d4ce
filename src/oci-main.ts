import { runOci } from './cli/commands/oci.ts';
import { keepAlive } from './sys/children.ts';
import { exitAtOnce } from './sys/exit.ts';

/** A supervisor may delete a container from a folder that is gone already. */
function currentFolder(): string {
  try {
    return process.cwd();
  } catch {
    return '/';
  }
}

// The process edge of `tsv oci`: a program of its own, so that it loads nothing of the others.
void keepAlive(runOci(process.argv.slice(3), currentFolder())).then(exitAtOnce);
