import { describe, expect, it } from 'vitest';
import { sshConfig } from '../../../src/ssh/config.ts';

const machine = {
  name: 'web-1',
  user: 'root',
  identityFile: '/p/.ts-vm/id',
  knownHostsFile: '/p/.ts-vm/known_hosts',
  proxyCommand: ['/usr/bin/tsv', 'proxy', 'web-1'],
};

describe('sshConfig', () => {
  it('prints one block per machine', () => {
    expect(sshConfig({ project: 'shop', machines: [machine, { ...machine, name: 'db', user: 'debian' }] })).toBe(`\
Host web-1 web-1.shop
  HostName web-1.shop
  HostKeyAlias web-1.shop
  User root
  IdentityFile "/p/.ts-vm/id"
  IdentitiesOnly yes
  UserKnownHostsFile "/p/.ts-vm/known_hosts"
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  UpdateHostKeys no
  PasswordAuthentication no
  LogLevel ERROR
  ProxyCommand /usr/bin/tsv proxy web-1

Host db db.shop
  HostName db.shop
  HostKeyAlias db.shop
  User debian
  IdentityFile "/p/.ts-vm/id"
  IdentitiesOnly yes
  UserKnownHostsFile "/p/.ts-vm/known_hosts"
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  UpdateHostKeys no
  PasswordAuthentication no
  LogLevel ERROR
  ProxyCommand /usr/bin/tsv proxy web-1
`);
  });

  it('quotes what ssh and the shell of its ProxyCommand would take apart', () => {
    const text = sshConfig({
      project: 'p',
      machines: [{ ...machine, identityFile: '/a b/"c"\\%d', proxyCommand: ['/a b/tsv', "it's", '100%', '$HOME'] }],
    });
    expect(text).toContain('IdentityFile "/a b/\\"c\\"\\\\%%d"');
    expect(text).toContain(`ProxyCommand '/a b/tsv' 'it'\\''s' 100%% '$HOME'`);
  });

  it('refuses what ssh_config cannot hold', () => {
    expect(() =>
      sshConfig({ project: 'p', machines: [{ ...machine, identityFile: '/a\nProxyCommand evil' }] }),
    ).toThrow('line break');
    expect(() => sshConfig({ project: 'p', machines: [{ ...machine, identityFile: '/a$\u007bb}' }] })).toThrow(
      'ssh cannot',
    );
    expect(() => sshConfig({ project: 'p', machines: [{ ...machine, proxyCommand: ['a\nb'] }] })).toThrow('line break');
  });
});
