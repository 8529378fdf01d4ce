import { describe, expect, test } from 'vitest';
import type { TsvError } from '../../../../src/model/errors.ts';
import { parseRegistriesConfig, registriesFile, settingsOf } from '../../../../src/store/registry/config.ts';
import { endpointsOf, isLoopback, originOf } from '../../../../src/store/registry/endpoints.ts';

const file = '/home/u/.config/ts-vm/registries.yaml';
const mistakes = (text: string): readonly string[] => {
  try {
    parseRegistriesConfig(text, file);
  } catch (error) {
    return (error as TsvError).details.map((line) => line.replace(file, 'F'));
  }
  return [];
};

describe('registries.yaml', () => {
  const text = [
    'version: 1',
    'registries:',
    '  docker.io:',
    '    mirrors: [https://mirror.example.org, "http://10.0.0.5:5000", https://proxy.example.org/dockerhub/]',
    '  registry.example.org:5000:',
    '    ca: ca.pem',
    '  Lab.example.org:',
    '    insecure: true',
    '  mirror.example.org:',
    '    ca: /etc/mirror.pem',
  ].join('\n');
  const config = parseRegistriesConfig(text, file);

  test('sets mirrors, authorities and what is insecure', () => {
    expect(settingsOf(config, 'docker.io').mirrors).toEqual([
      { protocol: 'https:', host: 'mirror.example.org', prefix: '' },
      { protocol: 'http:', host: '10.0.0.5:5000', prefix: '' },
      { protocol: 'https:', host: 'proxy.example.org', prefix: 'dockerhub/' },
    ]);
    expect(settingsOf(config, 'registry.example.org:5000').ca).toBe('/home/u/.config/ts-vm/ca.pem');
    expect(settingsOf(config, 'lab.example.org').insecure).toBe(true);
    expect(settingsOf(config, 'quay.io')).toEqual({ mirrors: [], insecure: false });
  });

  test('decides who is asked, and how', () => {
    const shown = (registry: string) =>
      endpointsOf(registry, config).map(({ name, origins, prefix }) =>
        `${name}: ${origins.join(' ')} ${prefix}`.trim(),
      );
    expect(shown('docker.io')).toEqual([
      'mirror.example.org: https://mirror.example.org',
      '10.0.0.5:5000: http://10.0.0.5:5000',
      'proxy.example.org: https://proxy.example.org dockerhub/',
      'docker.io: https://registry-1.docker.io',
    ]);
    expect(shown('quay.io')).toEqual(['quay.io: https://quay.io']);
    expect(shown('lab.example.org')).toEqual(['lab.example.org: https://lab.example.org http://lab.example.org']);
    expect(shown('localhost:5000')).toEqual(['localhost:5000: https://localhost:5000 http://localhost:5000']);
    expect(originOf('docker.io', config).isMirror).toBe(false);
  });

  test('that is empty of registries is right', () => {
    expect(mistakes('version: 1\n')).toEqual([]);
    expect(mistakes('version: 1\nregistries: {}\n')).toEqual([]);
  });

  test.each([
    ['', 'F:1:1: the file: must be a mapping of version, registries'],
    ['registries: {}', 'F:1:1: version: must be 1'],
    ['version: 2', 'F:1:10: version: must be 1'],
    ['version: 1\nregistry: {}', "F:2:1: the file: unknown key 'registry' (known: version, registries)"],
    ['version: 1\nregistries:', 'F:2:1: registries: its value is missing'],
    [
      'version: 1\nregistries:\n  docker.io:\n    mirror: []',
      "F:4:5: docker.io: unknown key 'mirror' (known: mirrors, insecure, ca)",
    ],
    ['version: 1\nregistries:\n  docker.io:\n    mirrors: x', 'F:4:14: mirrors: must be a list of addresses'],
    ['version: 1\nregistries:\n  docker.io:\n    insecure: yes', 'F:4:15: insecure: must be true or false'],
    ['version: 1\nregistries:\n  a.b:\n    ca: 7', 'F:4:9: ca: must be the path of a PEM file'],
    [
      'version: 1\nregistries:\n  "a b": {}',
      "F:3:10: 'a b' is no host of a registry, such as quay.io or localhost:5000",
    ],
    ['version: 1\nregistries:\n  docker.io: {}\n  index.docker.io: {}', 'F:4:20: docker.io is there twice'],
    ['version: 1\nregistries:\n  a.b: *x', 'F:3:8: a.b: must be a mapping of mirrors, insecure, ca'],
  ])('%j is refused with the place of the mistake', (broken, mistake) => {
    expect(mistakes(broken)).toContainEqual(mistake);
  });

  test.each([
    'mirror.example.org',
    'ftp://x.org',
    'https://user:secret@x.org',
    'https://x.org?a',
    'https://x.org/../v2',
    'https://',
    '7',
  ])('%s is no mirror', (address) => {
    expect(mistakes(`version: 1\nregistries:\n  docker.io:\n    mirrors:\n      - ${address}`)).toEqual([
      expect.stringMatching(/^F:5:9: a mirror is an address such as/),
    ]);
  });

  test('lies where XDG says', () => {
    expect(registriesFile({ HOME: '/h' })).toBe('/h/.config/ts-vm/registries.yaml');
    expect(registriesFile({ HOME: '/h', XDG_CONFIG_HOME: '/c' })).toBe('/c/ts-vm/registries.yaml');
    expect(registriesFile({ HOME: '/h', XDG_CONFIG_HOME: 'relative' })).toBe('/h/.config/ts-vm/registries.yaml');
  });
});

test.each([
  ['localhost', true],
  ['LOCALHOST:5000', true],
  ['127.0.0.1', true],
  ['127.8.9.10:80', true],
  ['[::1]', true],
  ['[::1]:5000', true],
  ['[0:0:0:0:0:0:0:1]:5000', true],
  ['localhost.example.org', false],
  ['127.0.0.1.example.org', false],
  ['127.1', false],
  ['128.0.0.1', false],
  ['[::2]', false],
  ['[1::1]', false],
])('%s is this host: %s', (host, is) => {
  expect(isLoopback(host)).toBe(is);
});
