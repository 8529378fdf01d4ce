import { runOci } from './cli/commands/oci.ts';
import { keepAlive } from './sys/children.ts';
import { exitAtOnce } from './sys/exit.ts';

// The process edge of `tsv oci`: a program of its own, so that it loads nothing of the others.
void keepAlive(runOci(process.argv.slice(3), process.cwd())).then(exitAtOnce);
