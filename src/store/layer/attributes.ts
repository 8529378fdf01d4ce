import type { Owners } from './names.ts';

/** What becomes of an extended attribute of an archive: a value to set, or why it is left out. */
export type Attribute = { readonly value: Buffer } | { readonly skip: string };

/**
 * Which attributes of an image are kept, xattr(7): `user.*`, capabilities and access control lists. The overlay's own
 * ones would let an image hide or move files of other layers, and labels of security modules are the host's to give.
 *
 * Inside the user namespace the kernel translates ids in values. Outside (`rooted`) they are translated here.
 */
export function attributeOf(name: string, value: Buffer, owners: Owners, rooted: boolean, path: string): Attribute {
  if (name.startsWith('user.overlay.') || name.startsWith('trusted.'))
    return { skip: "the overlay's own, or the host's" };
  if (name.startsWith('user.')) return { value };
  if (name === 'security.capability') return capability(value, owners, rooted, path);
  if (name === 'system.posix_acl_access' || name === 'system.posix_acl_default')
    return acl(value, owners, rooted, path);
  return { skip: 'not for an image to set' };
}

/** Revisions of struct vfs_cap_data, linux/capability.h; the lowest bit says whether they are effective at once. */
const revision2 = { magic: 0x02000000, bytes: 20 } as const;
const revision3 = { magic: 0x03000000, bytes: 24 } as const;
const revisionMask = 0xff000000;

/** capabilities(7), File capability extended attribute versioning: version 3 says whose root they are for. */
function capability(value: Buffer, owners: Owners, rooted: boolean, path: string): Attribute {
  const magic = value.length < 4 ? 0 : value.readUInt32LE(0);
  const revision = [revision2, revision3].find((known) => known.magic === (magic & revisionMask) >>> 0);
  if (revision?.bytes !== value.length) return { skip: 'capabilities of an unknown version' };
  if (!rooted) return { value };
  const own = Buffer.alloc(revision3.bytes);
  value.copy(own);
  own.writeUInt32LE(((magic & ~revisionMask) | revision3.magic) >>> 0, 0);
  own.writeUInt32LE(owners.uid(revision === revision3 ? value.readUInt32LE(20) : 0, path), 20);
  return { value: own };
}

/** struct posix_acl_xattr_header and _entry, linux/posix_acl_xattr.h. */
const aclVersion = 2;
const ACL_USER = 0x02;
const ACL_GROUP = 0x08;

function acl(value: Buffer, owners: Owners, rooted: boolean, path: string): Attribute {
  if (value.length < 4 || (value.length - 4) % 8 !== 0 || value.readUInt32LE(0) !== aclVersion) {
    return { skip: 'an access control list of an unknown form' };
  }
  if (!rooted) return { value };
  const own = Buffer.from(value);
  for (let at = 4; at < own.length; at += 8) {
    const tag = own.readUInt16LE(at);
    const id = own.readUInt32LE(at + 4);
    if (tag === ACL_USER) own.writeUInt32LE(owners.uid(id, path), at + 4);
    if (tag === ACL_GROUP) own.writeUInt32LE(owners.gid(id, path), at + 4);
  }
  return { value: own };
}
