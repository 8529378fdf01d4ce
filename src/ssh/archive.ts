// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the shell's own variables
import { copyPath } from '../copy/path.ts';
import type { PackRequest, UnpackRequest } from '../model/provider.ts';

/*
 * Archives of a machine's files by the tar of the machine, GNU's or busybox's. Scripts for POSIX shells; all that comes from
 * the request is an argument. Paths have one character per byte.
 */

const fail = 'fail() { printf \'%s: %s\\n\' "$1" "$2" >&2; exit 1; }';
const text = (bytes: string): string => Buffer.from(bytes, 'latin1').toString('utf8');

const packScript = `${fail}
d=$1; b=$2; kind=$3; follow=$4
p=$d/$b; [ "$d" = / ] && p=/$b; [ "$kind" = content ] && p=$d
[ -e "$p" ] || [ -L "$p" ] || fail "$p" 'no such file or folder'
[ "$kind" = any ] || [ -d "$p" ] || fail "$p" 'not a folder'
if [ "$follow" = yes ]; then p=$(readlink -f -- "$p") || fail "$1/$2" 'no such file or folder'; d=\${p%/*}; d=\${d:-/}; b=\${p##*/}; fi
set -- --numeric-owner
gnu=; tar --version 2>/dev/null | grep -q GNU && { gnu=yes; set -- "$@" --sparse --format=gnu; }
tar "$@" -cf - -C "$d" -- "$b"; c=$?
# GNU: a file changed while it was read; it has said which.
[ $c = 1 ] && [ -n "$gnu" ] && exit 0
exit $c`;

/** The arguments of a shell that prints an archive. */
export function packCommand({ path, follow }: PackRequest): string[] {
  const { full, parent, name: base, isFolder, isContent } = copyPath(text(path));
  const [folder, name] = isContent ? [full, '.'] : [parent, base];
  const kind = isContent ? 'content' : isFolder ? 'folder' : 'any';
  return ['sh', '-c', packScript, 'sh', folder, name, kind, !isContent && (follow || isFolder) ? 'yes' : 'no'];
}

/*
 * All goes into a folder of its own on the same file system first: what an interruption or a full disk leaves of it is removed,
 * and what is there is replaced by whole files only.
 */
const unpackScript = `${fail}
d=$1; name=$2; folder=$3; as=$4; must=$5; shift 5
if [ -d "$d" ]; then at=$d; to=$as; [ "$name" != . ] || to=''
elif [ "$name" = '' ]; then fail "$d" 'no such folder'
else
  if [ -e "$d" ]; then
    [ "$folder" = no ] || fail "$d" 'a folder cannot be copied onto a file'
    [ "$must" = no ] || fail "$d" 'not a folder'
  else
    [ "$must" = no ] || [ "$folder" = yes ] || fail "$d" 'no such folder'
  fi
  [ ! -L "$d" ] || d=$(readlink -f -- "$d") || fail "$1" 'no such folder'
  at=\${d%/*}; at=\${at:-/}; to=\${d##*/}
  [ -d "$at" ] || fail "$d" "the folder $at does not exist"
fi
t=$(mktemp -d "\${at%/}/.tsv-XXXXXXXX") || exit 1
trap 'rm -rf "$t"' EXIT
trap 'exit 1' HUP INT TERM
tar "$@" -xpf - -C "$t" || exit 1
merge() { cp -alf "$1/." "$2/" 2>/dev/null || cp -a --remove-destination "$1/." "$2/" || exit 1; }
if [ "$name" = '' ] || { [ "$name" = . ] && [ "$to" = '' ]; }; then
  chmod --reference="$at" "$t" 2>/dev/null; touch -r "$at" "$t"; chown --reference="$at" "$t" 2>/dev/null
  merge "$t" "$at"; exit 0
fi
goal=\${at%/}/$to
if [ "$name" = . ]; then mv "$t" "$goal"; exit $?; fi
from=$t/$name
[ -e "$from" ] || [ -L "$from" ] || fail "$name" 'not in the archive'
if [ -d "$goal" ] && [ ! -L "$goal" ]; then
  [ "$folder" = yes ] || fail "$goal" 'a folder is in its place'
  merge "$from" "$goal"
elif [ "$folder" = yes ] && { [ -e "$goal" ] || [ -L "$goal" ]; }; then fail "$goal" 'a folder cannot be copied onto a file'
else mv -f "$from" "$goal"; fi`;

/** The arguments of a shell that reads an archive. */
export function unpackCommand({ path, source, owners }: UnpackRequest): string[] {
  const { full, isFolder } = copyPath(text(path));
  const given = source === undefined ? ['', 'no', ''] : [text(source.name), yes(source.folder), text(source.as)];
  return ['sh', '-c', unpackScript, 'sh', full, ...given, yes(isFolder), owners ? '--numeric-owner' : '-o'];
}

const yes = (value: boolean): string => (value ? 'yes' : 'no');
