import { describe, expect, test } from 'vitest';
import { headlines, load, machine, machines, mistakes } from './support.ts';

/** Machine `a` of a Tsfile with these keys. */
const read = async (keys: string) => machine(await load(machines(`  a: { image: d, ${keys} }\n`)), 'a');
/** What is said about the machines of `body`, without the places. */
const said = async (body: string): Promise<string[]> =>
  (await headlines(machines(body))).map((line) => line.replace(/^\d+:\d+: /, ''));

describe('a restart policy', () => {
  test.each([
    ['on-failure', { when: 'on-failure' }],
    ['on-failure:3', { when: 'on-failure', most: 3 }],
    ['always', { when: 'always' }],
    ['unless-stopped', { when: 'unless-stopped' }],
    ['no', undefined],
    ['false', undefined],
    ['"no"', undefined],
  ])('is %s', async (text, policy) => {
    expect((await read(`restart: ${text}`)).restart).toEqual(policy);
  });

  test.each(['on-failure:0', 'on-failure:x', 'always:3', 'never', '""'])('is not %s', async (text) => {
    expect(await said(`  a: { image: d, restart: ${text} }\n`)).toEqual([
      expect.stringContaining('is not a restart policy (no, on-failure, on-failure:N, always or unless-stopped)'),
    ]);
  });

  test('is neither true nor a number', async () => {
    expect(await said('  a: { image: d, restart: true }\n')).toEqual(['`restart` cannot be true']);
    expect(await said('  a: { image: d, restart: 3 }\n')).toEqual(['`restart` must be a text or true or false, not 3']);
  });
});

describe('a one-shot machine', () => {
  test('is one only when it is said', async () => {
    expect((await read('oneshot: true, command: x')).oneshot).toBe(true);
    expect(await read('oneshot: false, command: x')).not.toHaveProperty('oneshot');
  });

  test('may be started again when it has failed, and not when it has done its work', async () => {
    expect(await read('oneshot: true, command: x, restart: on-failure')).toMatchObject({
      restart: { when: 'on-failure' },
    });
    expect(await mistakes(machines('  a: { image: d, oneshot: true, command: x, restart: always }\n'))).toEqual([
      [
        'Tsfile.yaml:3:54: `always` would start a one-shot machine again and again',
        '      a: { image: d, oneshot: true, command: x, restart: always }',
        '                                                         ^~~~~~',
        '    `on-failure` is possible',
      ].join('\n'),
    ]);
  });

  test('that is a container has a command, and nothing that is done to it while it runs', async () => {
    expect(await said('  a: { image: d, oneshot: true }\n')).toEqual(['without a `command` this container never ends']);
    expect(
      await said(
        '  a: { image: d, oneshot: true, command: x, healthcheck: { tcp: 1 }, provision: [{ shell: { inline: x } }] }\n',
      ),
    ).toEqual([
      'a one-shot machine is done when it has ended: nobody asks for its health',
      'a one-shot container ends by itself, provisioned or not',
    ]);
    // An image has a command of its own, and a VM a system that may power off.
    const body =
      '  a: { image: alpine, oneshot: true }\n  b: { box: d, oneshot: true, provision: [{ shell: { inline: x } }] }\n';
    expect((await load(machines(body))).machines.map(({ oneshot }) => oneshot)).toEqual([true, true]);
  });

  test('can be depended on for its end, and only such a one', async () => {
    const body = (condition: string, oneshot: string) =>
      `  a: { image: d, depends_on: { b: ${condition} } }\n  b: { image: d, command: x${oneshot} }\n`;
    const { machines: found } = await load(machines(body('completed', ', oneshot: true')));
    expect(found[0]?.dependsOn).toEqual([{ machine: 'b', condition: 'completed' }]);
    expect(await mistakes(machines(body('completed', '')))).toEqual([
      [
        'Tsfile.yaml:3:35: `b` is not meant to end, so nothing can wait for that',
        '      a: { image: d, depends_on: { b: completed } }',
        '                                      ^~~~~~~~~',
        '    give it `oneshot: true`, or write `b: started`',
      ].join('\n'),
    ]);
    expect((await mistakes(machines(body('healthy', ', oneshot: true'))))[0]).toContain(
      'it is a one-shot machine: write `b: completed`',
    );
  });
});

describe('a health check', () => {
  const times = { everyMs: 2000, timeoutMs: 5000, retries: 30, startPeriodMs: 0 };

  test.each([
    ['exec: [pg_isready, -q]', { exec: ['pg_isready', '-q'] }],
    ['http: { port: 8080, path: "/up?deep=1" }', { http: { port: 8080, path: '/up?deep=1' } }],
    ['http: { port: 80 }', { http: { port: 80, path: '/' } }],
    ['tcp: 5432', { tcp: 5432 }],
  ])('is by %s', async (text, question) => {
    expect((await read(`healthcheck: { ${text} }`)).healthcheck).toEqual({ ...question, ...times });
  });

  test('is by just one of them', async () => {
    expect(await said('  a: { image: d, healthcheck: { every: 1s } }\n')).toEqual([
      '`healthcheck` needs `exec`, `http` or `tcp`',
    ]);
    expect(await said('  a: { image: d, healthcheck: { exec: x, tcp: 1 } }\n')).toEqual([
      '`healthcheck` has `exec` and `tcp`; only one of them can be',
    ]);
  });

  test.each([
    ['tcp: 0', '`tcp` must be at least 1, not 0'],
    ['tcp: 65536', '`tcp` must be at most 65535, not 65536'],
    ['tcp: "80"', '`tcp` must be a whole number, not the text "80"'],
    ['http: "8080/up"', '`http` must be a map, not the text "8080/up"'],
    ['http: { path: / }', '`http` needs `port`'],
    [
      'http: { port: 80, path: up }',
      '"up" is not a path of a URL (it starts with / and has no spaces, such as /healthz)',
    ],
    [
      'http: { port: 80, path: "/a b" }',
      '"/a b" is not a path of a URL (it starts with / and has no spaces, such as /healthz)',
    ],
    ['http: { port: 80, host: x }', 'unknown key `host`'],
  ])('is not by %s', async (text, message) => {
    expect(await said(`  a: { image: d, healthcheck: { ${text} } }\n`)).toEqual([message]);
  });
});
