import { describe, expect, test } from 'vitest';
import { type Check, checkOf, questionWords } from '../../../src/agent/health-check.ts';
import type { ContainerDefaults } from '../../../src/model/image.ts';
import { type Healthcheck, isolationOf, type Machine } from '../../../src/model/project.ts';

const times = { everyMs: 2000, timeoutMs: 5000, retries: 30, startPeriodMs: 0 };
const machine = (own: Partial<Machine> = {}): Machine =>
  ({
    name: 'db',
    isolation: { ...isolationOf({}), user: undefined, workdir: undefined },
    ...own,
  }) as unknown as Machine;
const asked = (healthcheck: Healthcheck) => checkOf(machine({ healthcheck }), undefined);

describe('the health check of a Tsfile', () => {
  test('is a program in the machine, a request to it, or a connection', () => {
    expect(asked({ ...times, exec: ['pg_isready'] })).toEqual({
      ...times,
      question: { by: 'exec', request: { argv: ['pg_isready'] } },
    });
    expect(asked({ ...times, http: { port: 80, path: '/up' } })?.question).toEqual({
      by: 'http',
      port: 80,
      path: '/up',
    });
    expect(asked({ ...times, tcp: 5432 })?.question).toEqual({ by: 'tcp', port: 5432 });
  });

  test('is told in words', () => {
    const words = (own: Partial<Healthcheck>) => questionWords((asked({ ...times, ...own }) as Check).question);
    expect(words({ exec: ['curl', '-sf', 'x'] })).toBe("'curl -sf x'");
    expect(words({ http: { port: 80, path: '/up' } })).toBe('GET /up at port 80');
    expect(words({ tcp: 5432 })).toBe('a connection to port 5432');
  });

  test('is asked of no machine that is meant to end', () => {
    const defaults = image({ test: ['CMD', 'true'] });
    expect(checkOf(machine({ oneshot: true }), defaults)).toBeUndefined();
    expect(checkOf(machine(), defaults)).toBeDefined();
  });
});

const image = (
  healthcheck: ContainerDefaults['healthcheck'],
  more: Partial<ContainerDefaults> = {},
): ContainerDefaults => ({
  env: [],
  exposedPorts: [],
  volumes: [],
  labels: {},
  ...(healthcheck === undefined ? {} : { healthcheck }),
  ...more,
});

describe('the health check of an image', () => {
  const request = (own: Machine, defaults: ContainerDefaults) => {
    const question = checkOf(own, defaults)?.question;
    return question?.by === 'exec' ? question.request : undefined;
  };

  test('is a command as it is, or one for the shell', () => {
    expect(request(machine(), image({ test: ['CMD', 'pg_isready', '-q'] }))?.argv).toEqual(['pg_isready', '-q']);
    expect(request(machine(), image({ test: ['CMD-SHELL', 'pg_isready -q || exit 1'] }))?.argv).toEqual([
      '/bin/sh',
      '-c',
      'pg_isready -q || exit 1',
    ]);
  });

  test('runs as the user and in the folder that the container runs in', () => {
    const defaults = image({ test: ['CMD', 'true'] }, { user: 'postgres', workdir: '/var/lib/postgresql' });
    expect(request(machine(), defaults)).toMatchObject({ user: 'postgres', cwd: '/var/lib/postgresql' });
    const own = machine({ isolation: { ...isolationOf({}), user: { user: 7, group: 'db' }, workdir: '/srv' } });
    expect(request(own, defaults)).toMatchObject({ user: '7:db', cwd: '/srv' });
    expect(request(machine(), image({ test: ['CMD', 'true'] }))).toMatchObject({ user: 'root', cwd: '/' });
  });

  test("is asked as often as Docker asks, and every second while somebody waits; the Tsfile's counts more", () => {
    expect(checkOf(machine(), image({ test: ['CMD', 'true'] }))).toMatchObject({
      everyMs: 30_000,
      timeoutMs: 30_000,
      retries: 3,
      startPeriodMs: 0,
      waitedEveryMs: 1000,
    });
    expect(checkOf(machine(), image({ test: ['CMD', 'true'], everyMs: 200, retries: 7 }))).toMatchObject({
      everyMs: 200,
      retries: 7,
    });
    expect(checkOf(machine({ healthcheck: { ...times, tcp: 1 } }), image({ test: ['CMD', 'true'] }))).toEqual({
      ...times,
      question: { by: 'tcp', port: 1 },
    });
  });

  test.each([[undefined], [{ test: ['NONE'] }], [{ test: [] }]])('that is none (%j) is none', (none) => {
    expect(checkOf(machine(), image(none))).toBeUndefined();
    expect(checkOf(machine(), undefined)).toBeUndefined();
  });
});
