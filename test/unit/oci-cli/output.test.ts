import { describe, expect, test } from 'vitest';
import { features, featuresJson, versionText } from '../../../src/cli/oci/features.ts';
import { errorMessage, Log, type LogFormat, logLine } from '../../../src/cli/oci/log.ts';
import {
  type ListRow,
  listIds,
  listJson,
  listTable,
  psTable,
  readFormat,
  stateJson,
} from '../../../src/cli/oci/output.ts';
import { TsvError } from '../../../src/model/errors.ts';
import { commandFailure } from '../../../src/oci/failures.ts';

const row: ListRow = {
  ociVersion: '1.2.0',
  id: 'c1',
  pid: 541,
  status: 'running',
  bundle: '/tmp/bundles/web',
  rootfs: '/tmp/bundles/web/rootfs',
  created: '2026-01-02T03:04:05.678Z',
  owner: 'root',
};

describe('list', () => {
  test('prints a table whose columns are as runc’s', () => {
    expect(listTable([])).toBe('ID          PID         STATUS      BUNDLE      CREATED     OWNER\n');
    expect(listTable([row, { ...row, id: 'a-longer-name', pid: 0, status: 'stopped', bundle: '/b' }])).toBe(
      [
        'ID              PID         STATUS      BUNDLE             CREATED                    OWNER',
        'c1              541         running     /tmp/bundles/web   2026-01-02T03:04:05.678Z   root',
        'a-longer-name   0           stopped     /b                 2026-01-02T03:04:05.678Z   root',
        '',
      ].join('\n'),
    );
  });

  test('prints ids alone, and JSON in one line', () => {
    expect(listIds([row, { ...row, id: 'c2' }])).toBe('c1\nc2\n');
    expect(listIds([])).toBe('');
    expect(listJson([])).toBe('[]\n');
    expect(JSON.parse(listJson([row]))).toEqual([row]);
    expect(listJson([row, row]).split('\n')).toHaveLength(2);
  });

  test('knows two formats', () => {
    expect([readFormat(), readFormat('table'), readFormat('json')]).toEqual(['table', 'table', 'json']);
    expect(() => readFormat('xml')).toThrow('invalid format option: "xml"');
  });
});

describe('state', () => {
  const state = { ociVersion: '1.2.0', id: 'c1', bundle: '/b', rootfs: '/b/rootfs', created: 'now' } as const;

  test('is JSON with the keys of the specification in runc’s order', () => {
    const text = stateJson({
      ...state,
      annotations: { a: 'b' },
      status: 'running',
      pid: 7,
      rootfs: '/b/rootfs',
      created: 'now',
    });
    expect(Object.keys(JSON.parse(text))).toEqual([
      'ociVersion',
      'id',
      'pid',
      'status',
      'bundle',
      'rootfs',
      'created',
      'annotations',
      'owner',
    ]);
    expect(text).toContain('\n  "pid": 7,\n');
  });

  test('has pid 0 and no annotations where there are none', () => {
    expect(JSON.parse(stateJson({ ...state, status: 'stopped' }))).toEqual({
      ...state,
      status: 'stopped',
      pid: 0,
      owner: '',
    });
  });
});

describe('ps', () => {
  const printed = [
    'UID        PID  PPID  C STIME TTY          TIME CMD',
    'root         1     0  0 10:00 ?        00:00:01 /sbin/init',
    'root       541     1  0 14:56 ?        00:00:00 sleep 600',
    'root      5410   541  0 14:56 ?        00:00:00 sleep 541',
    '',
  ].join('\n');

  test('shows the title and the lines whose column PID is one of the container’s', () => {
    expect(psTable(printed, [541])).toBe(
      'UID        PID  PPID  C STIME TTY          TIME CMD\nroot       541     1  0 14:56 ?        00:00:00 sleep 600\n',
    );
    expect(psTable('  PID COMMAND\n    7 sh\n   77 cat\n', [77])).toBe('  PID COMMAND\n   77 cat\n');
  });

  test('shows the title alone when nothing runs', () => {
    expect(psTable(printed, [])).toBe('UID        PID  PPID  C STIME TTY          TIME CMD\n');
  });

  test.each(['root 541 1\n', '', 'PPID CMD\n1 541\n'])('needs the column: %j', (text) => {
    expect(() => psTable(text, [541])).toThrow("couldn't find PID field in ps output");
  });
});

describe('features', () => {
  const document = JSON.parse(featuresJson('1.2.3'));

  test('hold what the specification asks for, and no key of a later one', () => {
    expect(Object.keys(document)).toEqual([
      'ociVersionMin',
      'ociVersionMax',
      'hooks',
      'mountOptions',
      'linux',
      'annotations',
    ]);
    expect(Object.keys(document.linux)).toEqual([
      'namespaces',
      'capabilities',
      'cgroup',
      'seccomp',
      'apparmor',
      'selinux',
      'intelRdt',
      'mountExtensions',
    ]);
    expect(document).toMatchObject({
      ociVersionMin: '1.0.0',
      ociVersionMax: '1.2.0',
      hooks: ['prestart', 'createRuntime', 'createContainer', 'startContainer', 'poststart', 'poststop'],
      linux: {
        namespaces: ['cgroup', 'ipc', 'mount', 'network', 'pid', 'time', 'user', 'uts'],
        cgroup: { v1: true, v2: true, systemd: false, systemdUser: false, rdma: true },
        seccomp: { enabled: true },
        apparmor: { enabled: true },
        selinux: { enabled: true },
        mountExtensions: { idmap: { enabled: true } },
      },
      annotations: {
        'io.github.ts-vm.version': '1.2.3',
        'io.github.seccomp.libseccomp.version': expect.stringMatching(/^2\.\d+\.\d+$/),
      },
    });
  });

  test('list names without gaps and without doubles', () => {
    const { mountOptions, linux } = document;
    const lists: string[][] = [
      mountOptions,
      linux.namespaces,
      linux.capabilities,
      ...['actions', 'operators', 'archs', 'knownFlags'].map((key) => linux.seccomp[key]),
    ];
    for (const names of lists) {
      expect(names.length).toBeGreaterThan(3);
      expect(new Set(names).size).toBe(names.length);
    }
    expect(mountOptions).toEqual(expect.arrayContaining(['bind', 'rro', 'idmap', 'rslave', 'tmpcopyup']));
    expect(linux.seccomp.actions).not.toContain('SCMP_ACT_NOTIFY');
  });

  test('are printed as they are', () => {
    expect(document).toEqual(features('1.2.3'));
  });
});

test('the version is in the first line, that of the specification in the second', () => {
  expect(versionText('1.2.3').split('\n').slice(0, 2)).toEqual(['tsv oci version 1.2.3', 'spec: 1.2.0']);
});

describe('a log line', () => {
  const time = new Date('2026-01-02T03:04:05.678Z');
  test.each<[LogFormat, string, string]>([
    ['text', 'it is "so"', 'time="2026-01-02T03:04:05Z" level=error msg="it is \\"so\\""\n'],
    ['text', 'EOF', 'time="2026-01-02T03:04:05Z" level=error msg=EOF\n'],
    ['text', 'a\nb', 'time="2026-01-02T03:04:05Z" level=error msg="a\\nb"\n'],
    ['text', '', 'time="2026-01-02T03:04:05Z" level=error msg=""\n'],
    ['json', 'it is "so"', '{"level":"error","msg":"it is \\"so\\"","time":"2026-01-02T03:04:05Z"}\n'],
  ])('in %s of %j', (format, message, line) => {
    expect(logLine(format, { level: 'error', message, time })).toBe(line);
  });
});

describe('an error in the log', () => {
  test('has what, why and what to do in one line', () => {
    const error = new TsvError('TSV_BUNDLE', 'config.json is not valid', {
      details: ['root.path: must not be empty', 'mounts[0]:\n  wrong'],
      hint: 'mend\nit',
    });
    expect(errorMessage(error)).toBe(
      'config.json is not valid: root.path: must not be empty; mounts[0]:; wrong (mend; it)',
    );
  });

  test('is the message alone when there is no more', () => {
    expect(errorMessage(new TsvError('TSV_CONTAINER_UNKNOWN', 'container does not exist: c'))).toBe(
      'container does not exist: c',
    );
  });

  test('that is a defect shows where it comes from', () => {
    expect(errorMessage(new RangeError('oops'))).toMatch(/^oops: RangeError: oops; at .*output\.test\.ts/);
  });

  // Docker (127 and 126) and Podman (127 and 126) search for these words.
  test.each([
    ['nosuch', 'ENOENT', "c1 has no command 'nosuch': executable file not found in $PATH"],
    ['/nosuch', 'ENOENT', "c1 has no command '/nosuch': no such file or directory"],
    ['/etc/passwd/x', 'ENOTDIR', "c1 has no command '/etc/passwd/x': no such file or directory"],
    ['/bin', 'EACCES', "c1 cannot execute '/bin' (EACCES): permission denied"],
    ['/bin/text', 'ENOEXEC', "c1 cannot execute '/bin/text' (ENOEXEC): exec format error"],
  ])('of the command %s with %s has the words that callers know', (command, errno, message) => {
    expect(errorMessage(commandFailure('c1', command, errno))).toBe(message);
  });

  test('says the words of an errno in its details, once', () => {
    const failure = (details: string[]) => errorMessage(new TsvError('TSV_CONTAINER_START', 'no', { details }));
    expect(failure(['mounts[1].source: /x: ENOENT'])).toBe(
      'no: no such file or directory: mounts[1].source: /x: ENOENT',
    );
    expect(failure(['ENOENT: no such file or directory'])).toBe('no: ENOENT: no such file or directory');
    expect(failure(['ENOENTRY'])).toBe('no: ENOENTRY');
  });
});

describe('the log', () => {
  function open(format: LogFormat, withFile: boolean) {
    const file: string[] = [];
    const stderr: string[] = [];
    const log = new Log({
      format,
      ...(withFile ? { toFile: (text: string) => void file.push(text) } : {}),
      toStderr: (text) => void stderr.push(text),
      now: () => new Date('2026-01-02T03:04:05Z'),
    });
    return { log, file, stderr };
  }
  const error = new TsvError('TSV_USAGE', 'wrong');
  const json = (level: string, msg: string) => `{"level":"${level}","msg":"${msg}","time":"2026-01-02T03:04:05Z"}\n`;

  test('is stderr when no file is named', () => {
    const { log, stderr } = open('json', false);
    log.warn('careful');
    log.fail(error);
    expect(stderr).toEqual([json('warning', 'careful'), json('error', 'wrong')]);
  });

  test('in a file leaves the message alone to stderr', () => {
    const { log, file, stderr } = open('text', true);
    log.warn('careful');
    log.fail(error);
    expect(file).toEqual([
      'time="2026-01-02T03:04:05Z" level=warning msg=careful\n',
      'time="2026-01-02T03:04:05Z" level=error msg=wrong\n',
    ]);
    expect(stderr).toEqual(['wrong\n']);
  });

  test('as JSON in a file holds the error alone when a command fails: Podman reads one object', () => {
    const { log, file } = open('json', true);
    log.warn('careful');
    log.fail(error);
    expect(file).toEqual([json('error', 'wrong')]);
  });

  test('as JSON in a file holds the warnings of a command that succeeds, and stderr nothing', () => {
    const { log, file, stderr } = open('json', true);
    log.warn('careful');
    log.succeed();
    log.succeed();
    expect(file).toEqual([json('warning', 'careful')]);
    expect(stderr).toEqual([]);
  });
});
