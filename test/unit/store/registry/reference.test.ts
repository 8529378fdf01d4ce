import { describe, expect, test } from 'vitest';
import { TsvError } from '../../../../src/model/errors.ts';
import { familiar, formatReference, parseReference } from '../../../../src/store/registry/reference.ts';

const hex = 'ab'.repeat(32);
const digest = `sha256:${hex}`;
const digest512 = `sha512:${'cd'.repeat(64)}`;

describe('a reference', () => {
  test.each([
    ['nginx', 'docker.io/library/nginx:latest', 'nginx:latest'],
    ['nginx:1.27', 'docker.io/library/nginx:1.27', 'nginx:1.27'],
    ['library/nginx', 'docker.io/library/nginx:latest', 'nginx:latest'],
    ['docker.io/nginx', 'docker.io/library/nginx:latest', 'nginx:latest'],
    ['index.docker.io/library/nginx', 'docker.io/library/nginx:latest', 'nginx:latest'],
    ['bitnami/redis:7', 'docker.io/bitnami/redis:7', 'bitnami/redis:7'],
    ['docker.io/library/a/b', 'docker.io/library/a/b:latest', 'docker.io/library/a/b:latest'],
    ['docker.io/foo.bar/baz', 'docker.io/foo.bar/baz:latest', 'docker.io/foo.bar/baz:latest'],
    ['docker.io/localhost/baz', 'docker.io/localhost/baz:latest', 'docker.io/localhost/baz:latest'],
    ['ghcr.io/Owner/app'.toLowerCase(), 'ghcr.io/owner/app:latest', 'ghcr.io/owner/app:latest'],
    ['GHCR.io/owner/app', 'ghcr.io/owner/app:latest', 'ghcr.io/owner/app:latest'],
    ['quay.io/a/b/c/d:v1', 'quay.io/a/b/c/d:v1', 'quay.io/a/b/c/d:v1'],
    ['localhost/app', 'localhost/app:latest', 'localhost/app:latest'],
    ['localhost:5000/app', 'localhost:5000/app:latest', 'localhost:5000/app:latest'],
    ['LOCALHOST/app', 'localhost/app:latest', 'localhost/app:latest'],
    ['INTRANET/app', 'INTRANET/app:latest', 'INTRANET/app:latest'],
    ['127.0.0.1:5000/a/b:c', '127.0.0.1:5000/a/b:c', '127.0.0.1:5000/a/b:c'],
    ['[::1]:5000/app', '[::1]:5000/app:latest', '[::1]:5000/app:latest'],
    ['[2001:db8::1]/app', '[2001:db8::1]/app:latest', '[2001:db8::1]/app:latest'],
    ['xn--7o8h.com/app', 'xn--7o8h.com/app:latest', 'xn--7o8h.com/app:latest'],
    ['registry:5000/app', 'registry:5000/app:latest', 'registry:5000/app:latest'],
    ['a__b', 'docker.io/library/a__b:latest', 'a__b:latest'],
    ['a-b--c---d', 'docker.io/library/a-b--c---d:latest', 'a-b--c---d:latest'],
    ['a.b_c', 'docker.io/library/a.b_c:latest', 'a.b_c:latest'],
    ['app:_', 'docker.io/library/app:_', 'app:_'],
    ['app:V1.0-RC_2', 'docker.io/library/app:V1.0-RC_2', 'app:V1.0-RC_2'],
    [`app:${'t'.repeat(128)}`, `docker.io/library/app:${'t'.repeat(128)}`, `app:${'t'.repeat(128)}`],
    [`nginx@${digest}`, `docker.io/library/nginx@${digest}`, `nginx@${digest}`],
    [`nginx:1.27@${digest}`, `docker.io/library/nginx:1.27@${digest}`, `nginx:1.27@${digest}`],
    [`host.org:443/x@${digest512}`, `host.org:443/x@${digest512}`, `host.org:443/x@${digest512}`],
    [`docker.io/library/${hex}`, `docker.io/library/${hex}:latest`, `docker.io/library/${hex}:latest`],
    [`${hex}:x`, `docker.io/library/${hex}:x`, `docker.io/library/${hex}:x`],
    [`${'a'.repeat(237)}`, `docker.io/library/${'a'.repeat(237)}:latest`, `${'a'.repeat(237)}:latest`],
  ])('%s is read in full, and reads back from its short form', (text, full, short) => {
    const reference = parseReference(text);
    expect(formatReference(reference)).toBe(full);
    expect(familiar(reference)).toBe(short);
    expect(parseReference(full)).toEqual(reference);
    expect(parseReference(short)).toEqual(reference);
  });

  test('with a digest has no tag but the one that was written', () => {
    expect(parseReference(`nginx@${digest}`)).toEqual({ registry: 'docker.io', repository: 'library/nginx', digest });
    expect(parseReference(`nginx:1@${digest}`)).toEqual({
      registry: 'docker.io',
      repository: 'library/nginx',
      tag: '1',
      digest,
    });
  });

  test.each([
    ['', 'empty'],
    [' ', 'no part'],
    ['nginx ', 'no part'],
    ['nginx\n', 'no part'],
    [':tag', 'missing'],
    ['@sha256:x', 'no digest'],
    ['docker.io/', 'missing'],
    ['docker.io/:x', 'missing'],
    ['nginx:', 'no tag'],
    ['nginx:-x', 'no tag'],
    ['nginx:.x', 'no tag'],
    ['nginx:a b', 'no tag'],
    ['nginx:a/b', 'no host'],
    [`nginx:${'t'.repeat(129)}`, 'no tag'],
    ['a//b', 'is empty'],
    ['a/', 'is empty'],
    ['/a', 'is empty'],
    ['a..b', 'no part'],
    ['a___b', 'no part'],
    ['_a', 'no part'],
    ['a-', 'no part'],
    ['-a', 'no part'],
    ['a/../b', 'no part'],
    ['host.org/../b', 'no part'],
    ['host.org/b%2fc', 'no part'],
    ['ä', 'no part'],
    ['-host.org/a', 'no host'],
    ['host-.org/a', 'no host'],
    ['host..org/a', 'no host'],
    ['host.org:x/a', 'no host'],
    ['host.org:/a', 'no host'],
    ['user@host.org/a', 'no digest'],
    ['[::1/a', 'no host'],
    ['[::1%lo]:5000/a', 'no host'],
    ['https://host.org/a', 'URL'],
    ['docker://host.org/a', 'URL'],
    [hex, 'an id'],
    ['a'.repeat(239), 'longer than 255'],
    ['a'.repeat(10_000), 'too long'],
  ])('%j is refused', (text, why) => {
    expect(() => parseReference(text)).toThrow(
      expect.objectContaining({ code: 'TSV_IMAGE', details: [expect.stringContaining(why)] }),
    );
  });

  test.each([
    '@',
    `@sha256:${hex.slice(1)}`,
    `@sha256:${hex}0`,
    `@sha256:${hex.toUpperCase()}`,
    '@sha256:../../../../etc/passwd',
    `@sha256:${'../'.repeat(21)}a`,
    `@sha512:${hex}`,
    `@md5:${'a'.repeat(32)}`,
    `@sha256:${hex}@sha256:${hex}`,
    `@${digest}\n`,
    hex,
  ])('S29 with %j as its digest is refused', (end) => {
    expect(() => parseReference(`nginx${end.startsWith('@') ? end : `@${end}`}`)).toThrow(/is no image reference/);
  });

  test('with upper case in the repository is refused, with the name that is right', () => {
    for (const [text, right] of [
      ['NGINX', 'nginx'],
      ['ghcr.io/Owner/App:V1', 'ghcr.io/owner/app:V1'],
      ['library/Nginx', 'library/nginx'],
    ] as const) {
      let error: unknown;
      try {
        parseReference(text);
      } catch (caught) {
        error = caught;
      }
      expect(error).toBeInstanceOf(TsvError);
      expect((error as TsvError).details.join()).toContain('lower case');
      expect((error as TsvError).hint).toBe(`did you mean ${right}?`);
    }
  });

  test('that is accepted is one by the grammar of distribution, whatever the text was', () => {
    // distribution/reference, regexp.go: domain, path, tag and digest of a name in full.
    const component = '(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])';
    const domain = `(?:${component}(?:\\.${component})*|\\[(?:[a-fA-F0-9:]+)\\])(?::[0-9]+)?`;
    const part = '[a-z0-9]+(?:(?:[._]|__|[-]*)[a-z0-9]+)*';
    const grammar = new RegExp(
      `^${domain}/${part}(?:/${part})*(?::[\\w][\\w.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9]*:[0-9a-fA-F]{32,})?$`,
    );
    const pieces = [
      ...'abZ09._-:/@[]',
      '__',
      'localhost',
      'docker.io',
      'library',
      ':5000',
      `@${digest}`,
      ':latest',
      '::1',
    ];
    let state = 20250711;
    const random = (below: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    let accepted = 0;
    for (let round = 0; round < 30_000; round++) {
      const text = Array.from({ length: 1 + random(8) }, () => pieces[random(pieces.length)]).join('');
      let full: string;
      try {
        full = formatReference(parseReference(text));
      } catch (error) {
        expect(error, text).toBeInstanceOf(TsvError);
        continue;
      }
      accepted += 1;
      if (!grammar.test(full)) expect.fail(`${text} was taken as ${full}`);
      expect(formatReference(parseReference(full))).toBe(full);
      expect(formatReference(parseReference(familiar(parseReference(text))))).toBe(full);
    }
    expect(accepted).toBeGreaterThan(1000);
  });

  test('takes no longer for a text that was made to be slow', () => {
    for (const text of [`${'a-'.repeat(290)}!`, `${'a.'.repeat(280)}/!`, `${'a_'.repeat(250)}/${'-'.repeat(90)}`])
      expect(() => parseReference(text)).toThrow(/is no image reference/);
  });
});
