import { type Command, Option } from 'commander';
import type { Handler } from './program.ts';

/** Makes a command of a group call its handler, which is loaded only then. */
export type Act = (load: () => Promise<Handler<never>>) => (...all: unknown[]) => Promise<void>;

/** `tsv image …` and `tsv store …`. */
export function describeStore(program: Command, act: Act, only: string | undefined): void {
  if (only === undefined || only === 'image') describeImage(program, act);
  if (only === undefined || only === 'store') describeUpkeep(program, act);
}

const json = () => new Option('--json', 'machine-readable output');
const platform = () => new Option('--platform <os/arch>', 'of this platform, such as linux/arm64');

function describeImage(program: Command, act: Act): void {
  const image = program
    .command('image')
    .description('images: from registries and archives into the store, and back')
    .helpOption('-h, --help', 'print help');
  const command = (
    name: string,
    description: string,
    handler: Exclude<keyof typeof import('./commands/image.ts'), 'reportRefused'>,
  ) =>
    image
      .command(name)
      .description(description)
      .helpOption('-h, --help', 'print help')
      .action(act(async () => (await import('./commands/image.ts'))[handler] as Handler<never>));
  command('pull', 'take images from their registries', 'pull')
    .argument('<reference...>', 'for example nginx:1.27 or ghcr.io/owner/name@sha256:…')
    .addOption(platform())
    .option('-q, --quiet', 'print only what is there now');
  image
    .command('list')
    .alias('ls')
    .description('list the images of the store')
    .helpOption('-h, --help', 'print help')
    .addOption(json())
    .option('--digests', 'digests in full, and those that registries go by')
    .option('-q, --quiet', 'print digests only')
    .action(act(async () => (await import('./commands/image-list.ts')).list as Handler<never>));
  command('remove', 'remove names, and images that have none left', 'remove')
    .alias('rm')
    .argument('<image...>', 'names, or beginnings of digests')
    .option('-f, --force', 'also what machines that do not run were made from');
  command('inspect', 'all about images, as JSON', 'inspect').argument('<image...>').addOption(platform());
  command('history', 'how an image was built', 'history')
    .argument('<image>')
    .addOption(platform())
    .option('--no-trunc', 'cut nothing off')
    .addOption(json());
  command('tag', 'give an image one more name', 'tag').argument('<image>').argument('<name>', 'the new one');
  command('save', 'write images into an archive', 'save')
    .argument('<image...>')
    .option('-o, --output <file>', 'into this file or folder; absent: to standard output')
    .addOption(
      new Option('--format <format>', 'how')
        .choices(['oci-archive', 'docker-archive', 'oci-dir'])
        .default('oci-archive'),
    )
    .addOption(platform())
    .option('-q, --quiet', 'print errors only');
  command('load', 'take all images of an archive', 'load')
    .option(
      '-i, --input <file>',
      'this file or folder (an OCI image layout, or of docker save); absent: standard input',
    )
    .addOption(platform())
    .option('-q, --quiet', 'print errors only');
  command('push', 'put an image into a registry', 'push')
    .argument('<image>')
    .argument('[target]', 'its name there; absent: its own')
    .addOption(platform())
    .option('-q, --quiet', 'print only the name');
  command('tags', 'the tags of a repository', 'tags').argument('<repository>').addOption(json());
  command('login', 'keep credentials for a registry', 'login')
    .argument('<host>', 'docker.io for Docker Hub')
    .option('-u, --user <user>', 'as this user')
    .option('--password-stdin', 'read the password from standard input');
  command('logout', 'forget the credentials for a registry', 'logout').argument('<host>');
}

function describeUpkeep(program: Command, act: Act): void {
  const store = program
    .command('store')
    .description('what lies in the store: how much, what of it nobody uses, and whether it is whole')
    .helpOption('-h, --help', 'print help');
  const command = (name: string, description: string, handler: keyof typeof import('./commands/store.ts')) =>
    store
      .command(name)
      .description(description)
      .helpOption('-h, --help', 'print help')
      .action(act(async () => (await import('./commands/store.ts'))[handler] as Handler<never>));
  command('df', 'what takes the room', 'df').addOption(json());
  command('gc', 'remove what no project and no name uses', 'gc')
    .option('--all', 'also images that were pulled by hand, boxes, and provision layers, when nobody uses them')
    .option('--dry-run', 'only show what would go')
    .option('-y, --yes', 'do not ask')
    .addOption(json());
  command('verify', 'hash every blob and look at every image; exit code 1: something is wrong', 'verify')
    .addOption(json())
    .option('-q, --quiet', 'print only what is wrong');
}
