import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Identity } from '../../src/ssh/identity.ts';
import type { GuestFile } from './guest.ts';

/** One systemd credential (systemd.exec(5), systemd.system-credentials(7)). */
export interface Credential {
  readonly name: string;
  readonly value: string;
}

/** Where the machine asks for names. */
export interface Resolver {
  /** The project's domain. */
  readonly search: string;
  /** The gateways of its networks, in the order of its attachments. */
  readonly nameServers: readonly string[];
}

/** The files that make a guest this machine: keys, names, name servers. Pure. A folder comes before what is in it. */
export function identityFiles(
  identity: Identity,
  user: string,
  hostname: string,
  resolver: Resolver,
): readonly GuestFile[] {
  const keys = `${identity.login.publicKey}\n`;
  const root = (path: string, mode: string, text?: string): GuestFile =>
    text === undefined ? { path, mode, owner: 'root' } : { path, mode, owner: 'root', text };
  return [
    root('/etc/ssh/ssh_host_ed25519_key', '0600', identity.host.privateKey),
    root('/etc/ssh/ssh_host_ed25519_key.pub', '0644', `${identity.host.publicKey}\n`),
    root('/etc/hostname', '0644', `${hostname}\n`),
    root('/etc/hosts', '0644', hostsFile(hostname)),
    root('/etc/resolv.conf', '0644', resolvConf(resolver)),
    root('/root/.ssh', '0700'),
    root('/root/.ssh/authorized_keys', '0600', keys),
    ...(user === 'root'
      ? []
      : [
          { path: `/home/${user}/.ssh`, mode: '0700', owner: user },
          { path: `/home/${user}/.ssh/authorized_keys`, mode: '0600', owner: user, text: keys },
        ]),
  ];
}

/**
 * What a machine is told about itself before its first boot. Pure.
 * tmpfiles.d lines (`tmpfiles.extra`, systemd 252 and later) put the keys where sshd looks: systemd-tmpfiles-setup runs
 * before sshd, in every boot, and `f+` writes the whole file, so what is in the box gives way.
 */
export function credentials(files: readonly GuestFile[]): Credential[] {
  const lines = files.map(({ path, mode, owner, text }) =>
    text === undefined
      ? `d ${path} ${mode} ${owner} ${owner} -`
      : `f+~ ${path} ${mode} ${owner} ${owner} - ${Buffer.from(text).toString('base64')}`,
  );
  return [{ name: 'tmpfiles.extra', value: `${lines.join('\n')}\n` }];
}

/** resolv.conf(5): written, not learnt by DHCP, so that names work from the first moment on every network. */
const resolvConf = ({ search, nameServers }: Resolver): string =>
  `search ${search}\n${nameServers.map((server) => `nameserver ${server}\n`).join('')}`;

/** The names of the machine itself; those of its neighbours come from the network's DNS. */
const hostsFile = (hostname: string): string =>
  `127.0.0.1\tlocalhost\n127.0.1.1\t${hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n`;

/**
 * Writes each credential as the SMBIOS type 11 string that systemd reads, into a file of its own (0600) for QEMU's
 * `-smbios type=11,path=`: a command line can be read by every user of the host, these files cannot.
 * @returns the files, in order.
 */
export function writeCredentials(dir: string, list: readonly Credential[]): string[] {
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  return list.map(({ name, value }) => {
    const file = join(dir, name);
    const text = `io.systemd.credential.binary:${name}=${Buffer.from(value).toString('base64')}`;
    writeFileSync(file, text, { flag: 'wx', mode: 0o600 }); // no newline: QEMU would make it part of the string
    return file;
  });
}
