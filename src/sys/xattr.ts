import { errnoName } from './errno.ts';
import { syscallError, trySyscall, withBytes, withCString } from './libc.ts';

/** Values of more than this are none of those that are asked for here. */
const limitBytes = 256;

/**
 * An extended attribute of what a path names, itself if that is a link (lgetxattr(2)); undefined where it has none of that
 * name, or its file system has none at all.
 */
export function readXattr(path: string, name: string): Buffer | undefined {
  const value = new Uint8Array(limitBytes);
  return withBytes(value, (address, bytes) => {
    const length = withCString(path, (file) =>
      withCString(name, (attribute) => trySyscall('lgetxattr', file, attribute, address, limitBytes)),
    );
    if (length >= 0) return Buffer.from(bytes.subarray(0, length));
    if (['ENODATA', 'EOPNOTSUPP', 'ENOENT', 'ERANGE'].includes(errnoName(-length))) return undefined;
    throw syscallError('lgetxattr', path, -length);
  });
}
