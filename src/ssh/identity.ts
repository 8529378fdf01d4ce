import { randomBytes } from 'node:crypto';
import { lstatSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { TsvError } from '../model/errors.ts';
import { generateKeyPair, type KeyPair } from './keys.ts';

/** What makes a machine this machine and no clone of another. Made once, at `create`; kept until `destroy`. */
export interface Identity {
  /** Opens the machine's accounts. */
  readonly login: KeyPair;
  /** The machine shows it; we pin it. */
  readonly host: KeyPair;
  /** 32 hexadecimal digits (machine-id(5)). */
  readonly machineId: string;
}

const files = {
  login: 'login_ed25519',
  loginPublic: 'login_ed25519.pub',
  host: 'host_ed25519',
  hostPublic: 'host_ed25519.pub',
  machineId: 'machine-id',
} as const;

/** The login key's file, for `ssh -i`. */
export const loginKeyFile = (dir: string): string => join(dir, files.login);

/**
 * Makes the identity in `dir` (0700, every file 0600), or reads the one that is there.
 * All or nothing: the folder gets its name when every file is in it.
 */
export function ensureIdentity(dir: string, comment: string): Identity {
  if (lstatSync(dir, { throwIfNoEntry: false }) === undefined) {
    const staging = `${dir}.new`;
    rmSync(staging, { recursive: true, force: true }); // an earlier try that was cut short
    mkdirSync(staging, { mode: 0o700 });
    const login = generateKeyPair(comment);
    const host = generateKeyPair(comment);
    const write = (name: string, text: string) =>
      writeFileSync(join(staging, name), `${text.trimEnd()}\n`, { flag: 'wx', mode: 0o600 });
    write(files.login, login.privateKey);
    write(files.loginPublic, login.publicKey);
    write(files.host, host.privateKey);
    write(files.hostPublic, host.publicKey);
    write(files.machineId, randomMachineId());
    renameSync(staging, dir);
  }
  return readIdentity(dir);
}

/** @throws TSV_STATE_UNSAFE when a file is missing, a link, or open to other users. */
export function readIdentity(dir: string): Identity {
  const read = (name: string): string => {
    const file = join(dir, name);
    const stat = lstatSync(file, { throwIfNoEntry: false });
    if (!stat?.isFile() || (stat.mode & 0o077) !== 0) {
      throw new TsvError('TSV_STATE_UNSAFE', `${file} is not a plain file that only its owner can read`, {
        hint: `look at it with: ls -l ${dir}   # 'tsv destroy' and 'tsv up' make a new one`,
      });
    }
    return readFileSync(file, 'utf8').trimEnd();
  };
  return {
    login: { privateKey: `${read(files.login)}\n`, publicKey: read(files.loginPublic) },
    host: { privateKey: `${read(files.host)}\n`, publicKey: read(files.hostPublic) },
    machineId: read(files.machineId),
  };
}

/** machine-id(5): random, and by sd-id128(3) also a valid version 4 UUID, so that it can be the firmware's too. */
function randomMachineId(): string {
  const bytes = randomBytes(16);
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x40, 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  return bytes.toString('hex');
}

/** `8-4-4-4-12`, the way QEMU and SMBIOS want it. */
export const asUuid = (machineId: string): string =>
  machineId.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
