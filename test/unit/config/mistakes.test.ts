import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loadProject } from '../../../src/config/index.ts';
import { boxes, failure, fixtures } from './support.ts';

test('twenty different mistakes are reported in one go, each with its place, line, caret and hint', async () => {
  const error = await failure(loadProject(join(fixtures, 'mistakes'), { env: {}, boxes }));
  expect(error.code).toBe('TSV_TSFILE_INVALID');
  expect(error.message).toBe('Tsfile.yaml has 20 mistakes');
  expect(`${error.details.join('\n').replaceAll(fixtures, '…')}\n`).toMatchInlineSnapshot(`
    "Tsfile.yaml:1:10: \`version\` cannot be 2
        version: 2
                 ^
        it must be 1
    Tsfile.yaml:2:1: unknown key \`netwroks\`
        netwroks: {}
        ^~~~~~~~
        did you mean \`networks\`?
    Tsfile.yaml:4:20: networks of mode \`bridged\` are not supported yet
          default: { mode: bridged }
                           ^~~~~~~
        use nat or isolated
    Tsfile.yaml:9:13: "12Q" is not a size (a number with K, M, G or T, such as 512M or 1.5G, or bytes)
            memory: 12Q
                    ^~~
    Tsfile.yaml:10:16: there is no network \`defualt\`
            networks: [defualt, { name: inner, address: 10.91.5.2 }]
                       ^~~~~~~
        did you mean \`default\`?
    Tsfile.yaml:10:49: 10.91.5.2 is outside 10.91.4.0/24 of network \`inner\`
            networks: [defualt, { name: inner, address: 10.91.5.2 }]
                                                        ^~~~~~~~~
        10.91.4.2 to 10.91.4.254 are free for machines
    Tsfile.yaml:12:26: \`shelf\` cannot become healthy: it has no \`healthcheck\`
            depends_on: { shelf: healthy, ledgr: started }
                                 ^~~~~~~
        give it one, or write \`shelf: started\`
    Tsfile.yaml:12:35: there is no machine \`ledgr\` to depend on
            depends_on: { shelf: healthy, ledgr: started }
                                          ^~~~~
        did you mean \`Ledger\`?
    Tsfile.yaml:14:18: the script provisioning/missing.sh does not exist
              - { shell: provisioning/missing.sh, args: web-1 }
                         ^~~~~~~~~~~~~~~~~~~~~~~
    Tsfile.yaml:14:49: \`args\` must be a list, not the text "web-1"
              - { shell: provisioning/missing.sh, args: web-1 }
                                                        ^~~~~
    Tsfile.yaml:17:15: \`replicas\` must be a whole number, not the text "three"
            replicas: three
                      ^~~~~
        for example: 3
    Tsfile.yaml:18:16: port 8080 of the host is already forwarded to \`front\` (127.0.0.1 and 0.0.0.0 overlap)
            forwards: ["0.0.0.0:8080:80"]
                       ^~~~~~~~~~~~~~~~~
    Tsfile.yaml:19:18: machines wait for each other: front -> shelf -> front
            depends_on: [front]
                         ^~~~~
    Tsfile.yaml:20:3: "Ledger" is not a machine name (lower-case letters, digits and inner hyphens, at most 63)
          Ledger:
          ^~~~~~
    Tsfile.yaml:20:3: \`Ledger\` has \`image\` and \`box\`; only one of them can be
          Ledger:
          ^~~~~~
    Tsfile.yaml:23:5: unknown key \`provison\`
            provison: []
            ^~~~~~~~
        did you mean \`provision\`?
    Tsfile.yaml:26:11: the VM \`disk\` cannot have 1.5 CPUs
            cpus: 1.5
                  ^~~
        a VM has whole CPUs; fractions are for containers
    Tsfile.yaml:27:5: sharing folders with a VM is not supported yet
            share: [{ host: ./nowhere, guest: srv }]
            ^~~~~
        copy them with a \`file\` step in \`provision\`
    Tsfile.yaml:27:21: ./nowhere does not exist
            share: [{ host: ./nowhere, guest: srv }]
                            ^~~~~~~~~
        mkdir -p …/mistakes/nowhere
    Tsfile.yaml:27:39: "srv" is not an absolute path in the machine (it starts with /)
            share: [{ host: ./nowhere, guest: srv }]
                                              ^~~
    "
  `);
});

test('a mistake is shown relative to the folder that the command runs in', async () => {
  const error = await failure(
    loadProject(join(fixtures, 'reference/site'), { env: {}, boxes, file: '../../mistakes/Tsfile.yaml' }),
  );
  expect(error.details[0]).toMatch(/^\.\.\/\.\.\/mistakes\/Tsfile\.yaml:1:10: /);
});
