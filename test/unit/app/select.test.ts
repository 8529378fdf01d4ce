import { describe, expect, test } from 'vitest';
import { select, textOf } from '../../../src/app/select.ts';
import type { TsvError } from '../../../src/model/errors.ts';

const machine = {
  name: 'web',
  state: 'running',
  restarts: 0,
  networks: { default: { address: '10.77.0.2' }, 'back-end': { address: '10.77.1.2' } },
  forwards: [{ host: '127.0.0.1:8080', guestPort: 80 }],
  image: { labels: { 'org.x.version': '1.2' } },
  env: {},
};

test.each([
  ['.state', 'running'],
  ['.networks.default.address', '10.77.0.2'],
  ['.networks.back-end.address', '10.77.1.2'],
  ['.networks["back-end"].address', '10.77.1.2'],
  ['.forwards[0].host', '127.0.0.1:8080'],
  ['.forwards', '[{"host":"127.0.0.1:8080","guestPort":80}]'],
  ['.restarts', '0'],
  ['.image.labels["org.x.version"]', '1.2'],
  ['.', JSON.stringify(machine)],
  ['{{.Name}}: {{ .State }}, {{.restarts}}', 'web: running, 0'],
  ['{{.State}}', 'running'],
])('%s is %s', (path, text) => {
  expect(textOf(select(path, machine))).toBe(text);
});

describe('a path that leads nowhere', () => {
  const failure = (path: string): TsvError => {
    try {
      select(path, machine);
    } catch (error) {
      return error as TsvError;
    }
    throw new Error(`${path} was found`);
  };

  test('says what is there, and what was probably meant', () => {
    const { code, message, details, hint } = failure('.networks.defalt.address');
    expect({ code, message, details, hint }).toEqual({
      code: 'TSV_USAGE',
      message: '--format: .networks has no .defalt',
      details: ['it has .default .back-end'],
      hint: 'did you mean .networks.default?',
    });
    expect(failure('.stat').hint).toBe('did you mean .state?');
    expect(failure('.env.X').details).toEqual(['it is empty']);
  });

  test('knows lists from texts', () => {
    expect(failure('.forwards.host').message).toBe('--format: .forwards is a list, and has no .host');
    expect(failure('.forwards[1]').details).toEqual(['its last element is [0]']);
    expect(failure('.state.status').message).toBe('--format: .state is running, and has no .status');
    expect(failure('.state[0]').message).toBe('--format: .state is no list, and has no [0]');
  });

  test.each(['state', '', '{{}}', '.forwards[x]', '.a b'])('%j is no path at all', (path) => {
    expect(failure(path).message).toMatch(/is no path$/);
  });
});
