import { chmodSync, chownSync, cpSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { UserMap } from '../../sys/userns.ts';
import type { HostApt } from './host-apt.ts';
import { partFiles } from './layout.ts';
import { packageProgress } from './progress.ts';
import type { BoxKind, Recipe } from './recipe.ts';
import { type Workshop, workDir } from './workshop.ts';

export interface BuildContext {
  readonly recipe: Recipe;
  readonly apt: HostApt;
  readonly map: UserMap;
  /** Open on `STORE/boxes/NAME`. */
  readonly workshop: Workshop;
  /** `STORE/boxes/NAME/.PART.XXXXXX`, which this fills. */
  readonly target: string;
  /** The same folder inside the workshop. */
  readonly inside: string;
  readonly progress: (text: string) => void;
}

/** What a build needs besides its result; removed from the finished part. */
export const scratch = 'recipe';

/** Copies `$2` into the tree `$1` as root's, readable for all, whatever owner and umask the checkout had. */
const copyFiles =
  '[ ! -d "$2" ] || tar --owner=0 --group=0 --mode=u+rwX,go=rX -C "$2" -c . | tar -C "$1" --no-overwrite-dir -x';
/** The package lists stay, and so does apt's index of them: `apt-get install` works at once in a new machine. */
const tidyApt = 'chroot "$1" apt-get clean && chroot "$1" apt-cache gencaches';

/** Makes `rootfs`: mmdebstrap straight into a folder of the sandbox's ids. */
export async function buildContainerPart(context: BuildContext): Promise<void> {
  const { recipe, apt, workshop, inside } = context;
  const files = copyRecipe(context, 'container');
  const has = (name: string) => existsSync(join(recipe.dir, 'container', name));
  await workshop.run({
    argv: [
      ...['mmdebstrap', '--mode=root', '--variant=minbase', '--format=directory', '--verbose', '--skip=cleanup/apt'],
      `--include=${recipe.container.packages.join(',')}`,
      // Options in mmdebstrap's hands hold during the build, and stay in the box.
      `--aptopt=${inside}/${scratch}/host.conf`,
      ...(has('apt.conf') ? [`--aptopt=${files}/apt.conf`] : []),
      ...(has('dpkg.cfg') ? [`--dpkgopt=${files}/dpkg.cfg`] : []),
      `--setup-hook=set -- "$1" ${files}/files; ${copyFiles}`,
      `--setup-hook=set -- "$1" ${inside}/${scratch}/host-files; ${copyFiles}`,
      ...(has('setup.sh') ? [`--customize-hook=sh ${files}/setup.sh "$1"`] : []),
      // mmdebstrap copied the host's; the machine's comes with the machine.
      '--customize-hook=rm -f "$1/etc/resolv.conf"; : > "$1/etc/resolv.conf"',
      `--customize-hook=${tidyApt}`,
      ...[recipe.suite, `${inside}/${partFiles.rootfs}`, `${inside}/${scratch}/debian.sources`],
    ],
    env: apt.buildEnv,
    failure: `the box ${recipe.name} could not be built`,
    onLine: packageProgress('base system', context.progress),
  });
}

/** $1: the tree to make; $2: the container's; $3: the recipe's vm folder; $4: where kernel and initrd go; then packages. */
const extend = `
set -eu
root=$1 base=$2 recipe=$3 out=$4
shift 4
cp -a "$base/." "$root"
set -- "$root" "$recipe/files" "$@"
${copyFiles}
shift 2
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
  : > "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s /proc/self/fd "$root/dev/fd"
mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
# Nothing starts a service in here (invoke-rc.d, policy-rc.d).
printf '#!/bin/sh\\nexit 101\\n' > "$root/usr/sbin/policy-rc.d"
chmod 0755 "$root/usr/sbin/policy-rc.d"
chroot "$root" apt-get -q update
chroot "$root" apt-get -q -y --no-install-recommends -o Dpkg::Options::=--force-confold install "$@"
umount "$root/etc/resolv.conf"
rm "$root/usr/sbin/policy-rc.d"
[ ! -e "$recipe/setup.sh" ] || sh "$recipe/setup.sh" "$root" "$out" "$recipe"
set -- "$root"
${tidyApt}
umount -R "$root/dev" "$root/proc"
`;

/**
 * Makes `disk.raw`, `kernel` and `initrd`: a copy of the container's root file system, the VM's packages, and
 * mke2fs(8) with `-d`, which needs neither root nor a loop device. `base`: the container part inside the workshop.
 */
export async function buildVmPart(context: BuildContext, base: string): Promise<void> {
  const { recipe, apt, workshop, inside, progress } = context;
  const { vm } = recipe;
  if (vm === undefined) throw new TypeError('a recipe without vm has no VM part');
  const files = copyRecipe(context, 'vm');
  const root = `${inside}/${scratch}/${partFiles.rootfs}`;
  await workshop.run({
    argv: ['sh', '-c', `mkdir "$1" && ${extend}`, 'sh', root, base, files, inside, ...vm.packages].map(String),
    env: apt.buildEnv,
    failure: `the VM of the box ${recipe.name} could not be built`,
    onLine: packageProgress('virtual machine', progress),
  });
  progress('virtual machine: disk image');
  const disk = `${inside}/${partFiles.disk}`;
  // A small journal: it is there for killed machines, not for throughput. Checksums of metadata cost an emulated CPU time.
  await workshop.run({
    argv: [
      ...['mke2fs', '-q', '-t', 'ext4', '-L', 'tsv-root', '-m', '0', '-J', 'size=16', '-O', '^metadata_csum'],
      ...['-E', 'lazy_itable_init=0,lazy_journal_init=0', '-d', root, disk, `${vm.diskBytes / 1024}k`],
    ],
    failure: `the disk of the box ${recipe.name} could not be made`,
  });
  await workshop.run({
    argv: ['chmod', '0444', disk, `${inside}/${partFiles.kernel}`, `${inside}/${partFiles.initrd}`],
    failure: `the disk of the box ${recipe.name} could not be made`,
  });
}

/** Removes what only the build needed, and measures what is left. */
export async function finishPart(context: BuildContext): Promise<number> {
  const { workshop, inside, recipe } = context;
  const failure = `the box ${recipe.name} could not be finished`;
  let bytes = 0;
  await workshop.run({ argv: ['rm', '-rf', `${inside}/${scratch}`], failure });
  await workshop.run({
    argv: ['du', '--summarize', '--block-size=1', inside],
    failure,
    onLine: (line) => {
      bytes = Number.parseInt(line, 10) || bytes;
    },
  });
  return bytes;
}

/** Puts the recipe's folder of this kind, and what the host's apt adds, where the sandbox's ids can read it. */
function copyRecipe(context: BuildContext, kind: BoxKind): string {
  const { recipe, apt, map, target, inside } = context;
  const dir = join(target, scratch);
  if (existsSync(join(recipe.dir, kind))) cpSync(join(recipe.dir, kind), join(dir, kind), { recursive: true });
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, 'debian.sources'), apt.sources);
  writeFileSync(join(dir, 'host.conf'), apt.settings);
  const authorities = join(dir, 'host-files/usr/local/share/ca-certificates');
  mkdirSync(authorities, { recursive: true });
  for (const [name, text] of Object.entries(apt.authorities)) writeFileSync(join(authorities, name), text);
  giveAway(target, map);
  return `${inside}/${scratch}/${kind}`;
}

/** Makes everything below `path` the property of the namespace's root, readable. */
function giveAway(path: string, map: UserMap): void {
  const uid = map.uids[0]?.outside;
  const gid = map.gids[0]?.outside;
  const give = (entry: string, mode: number) => {
    chmodSync(entry, mode);
    if (map.rooted && uid !== undefined && gid !== undefined) chownSync(entry, uid, gid);
  };
  give(path, 0o755);
  for (const entry of readdirSync(path, { recursive: true, withFileTypes: true })) {
    if (!entry.isSymbolicLink()) give(join(entry.parentPath, entry.name), entry.isDirectory() ? 0o755 : 0o644);
  }
}

/** Where a folder of the box is inside the workshop. */
export const insideWorkshop = (name: string): string => `${workDir}/${name}`;
