import { describe, expect, test } from 'vitest';
import { parseChallenges } from '../../../../src/store/registry/challenge.ts';

describe('a WWW-Authenticate field', () => {
  test.each([
    [
      'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull,push"',
      [
        {
          scheme: 'bearer',
          parameters: {
            realm: 'https://auth.docker.io/token',
            service: 'registry.docker.io',
            scope: 'repository:library/nginx:pull,push',
          },
        },
      ],
    ],
    ['Basic realm="a b"', [{ scheme: 'basic', parameters: { realm: 'a b' } }]],
    ['bearer REALM = "x" , Service=y', [{ scheme: 'bearer', parameters: { realm: 'x', service: 'y' } }]],
    [
      'Basic realm="one", Bearer realm="two",error="invalid_token"',
      [
        { scheme: 'basic', parameters: { realm: 'one' } },
        { scheme: 'bearer', parameters: { realm: 'two', error: 'invalid_token' } },
      ],
    ],
    [
      'Negotiate abc==, Basic realm="x"',
      [
        { scheme: 'negotiate', parameters: {} },
        { scheme: 'basic', parameters: { realm: 'x' } },
      ],
    ],
    [
      'Negotiate, Basic realm="x"',
      [
        { scheme: 'negotiate', parameters: {} },
        { scheme: 'basic', parameters: { realm: 'x' } },
      ],
    ],
    [
      'Basic realm="a \\"quoted\\" b, Bearer realm=c"',
      [{ scheme: 'basic', parameters: { realm: 'a "quoted" b, Bearer realm=c' } }],
    ],
    ['Bearer realm="first",realm="second"', [{ scheme: 'bearer', parameters: { realm: 'first' } }]],
    [', ,Basic realm="x",', [{ scheme: 'basic', parameters: { realm: 'x' } }]],
    ['Bearer', [{ scheme: 'bearer', parameters: {} }]],
    ['Bearer realm="never closed', [{ scheme: 'bearer', parameters: {} }]],
    ['', []],
    ['"quoted"', []],
    ['=x', []],
  ])('%s', (field, challenges) => {
    expect(parseChallenges(field)).toEqual(challenges);
  });

  test('cannot give an object another prototype', () => {
    const [challenge] = parseChallenges('Bearer __proto__="x",constructor="y",realm="z"');
    expect(Object.getPrototypeOf(challenge?.parameters)).toBe(Object.prototype);
    expect(challenge?.parameters.realm).toBe('z');
  });

  test('that is endless is not read', () => {
    expect(parseChallenges(`Bearer realm="${'x'.repeat(10_000)}"`)).toEqual([]);
  });
});
