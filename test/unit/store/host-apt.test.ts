import { describe, expect, it } from 'vitest';
import { aptSettings, formatDeb822, forSuite, parseDeb822, parseList } from '../../../src/store/box/host-apt.ts';

const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';
const deb822 = `Types: deb deb-src
# a comment inside
URIs: http://mirror.test/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By: ${keyring}

Types: deb
URIs: http://vendor.test/apt
Suites: bookworm
Components: main
Signed-By: /usr/share/keyrings/vendor.gpg

Enabled: no
Types: deb
URIs: http://off.test/debian
Suites: bookworm
Components: main
`;

describe("the host's sources", () => {
  it('are read in the deb822 style', () => {
    expect(parseDeb822(deb822).map(({ uris }) => uris[0])).toEqual([
      'http://mirror.test/debian',
      'http://vendor.test/apt',
    ]);
  });

  it('are read in the one-line style', () => {
    const text = `# deb http://no.test x main\ndeb [arch=amd64 signed-by=${keyring}] http://mirror.test/debian bookworm main # why\ndeb-src http://no.test y main\n`;
    expect(parseList(text)).toEqual([
      {
        uris: ['http://mirror.test/debian'],
        suites: ['bookworm'],
        components: ['main'],
        signedBy: keyring,
        trusted: false,
      },
    ]);
  });

  it("are cut down to Debian's own for the suite: no backports, no other vendors", () => {
    expect(formatDeb822(forSuite(parseDeb822(deb822), 'bookworm'))).toBe(
      `Types: deb\nURIs: http://mirror.test/debian\nSuites: bookworm bookworm-updates\nComponents: main contrib\nSigned-By: ${keyring}\n`,
    );
  });

  it('are none for another suite', () => {
    expect(forSuite(parseDeb822(deb822), 'trixie')).toEqual([]);
  });
});

describe("the host's apt settings", () => {
  it('pass on how a mirror is reached, and nothing else', () => {
    const dump = [
      'APT::Architecture "amd64";',
      'Acquire::http::Proxy "http://proxy.test:3142";',
      'Acquire::http::Proxy::plain.test "DIRECT";',
      'Acquire::https::CaInfo "/etc/ssl/own.pem";',
      'Acquire::http::Proxy-Auto-Detect "/usr/bin/detect";',
      'Acquire::Check-Valid-Until "false";',
      'DPkg::Post-Invoke:: "true";',
    ].join('\n');
    expect(aptSettings(dump, {}).settings).toBe(
      'Acquire::http::Proxy "http://proxy.test:3142";\nAcquire::http::Proxy::plain.test "DIRECT";\nAcquire::Check-Valid-Until "false";\n',
    );
  });

  it.each(['http://127.0.0.1:3142', 'http://localhost:3142', 'http://user:secret@proxy.test:8080'])(
    'keep the proxy %s for the build and out of the box',
    (proxy) => {
      expect(aptSettings(`Acquire::http::Proxy "${proxy}";`, {})).toEqual({
        settings: '',
        buildEnv: { http_proxy: proxy },
      });
    },
  );

  it('take the proxies of the environment too', () => {
    expect(aptSettings('', { https_proxy: 'http://proxy.test:1' }).settings).toBe(
      'Acquire::https::Proxy "http://proxy.test:1";\n',
    );
  });
});
