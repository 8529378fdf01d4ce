import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { programPath } from './docker.mjs';
import { run, time } from './measure.mjs';
import { boxName, createProject, tsv } from './project.mjs';

const sbin = `${process.env.PATH}:/usr/local/sbin:/usr/sbin:/sbin`;
const pool = 'tsv-bench';

/**
 * Vagrant with libvirt, and a libvirtd for this run only: in network, mount and PID namespaces of its own, so that its networks,
 * its firewall rules and its files are not the host's, and all of it ends with its first process.
 * @param {{ dir: string, cleanup: (undo: () => unknown) => void, skip: (why: string) => void }} context
 * @returns undefined, after `skip` was told why, where there is none
 */
export async function openVagrant({ dir, cleanup, skip }) {
  const missing = ['vagrant', 'libvirtd', 'virsh', 'dnsmasq', 'qemu-img'].filter(
    (name) => programPath(name) === undefined,
  );
  if (missing.length > 0)
    return skip(
      `${missing.join(', ')} not installed (Debian: vagrant vagrant-libvirt libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients dnsmasq-base qemu-utils)`,
    );
  if (process.getuid() !== 0) return skip('only root can start a libvirtd for this run');
  const home = join(dir, 'vagrant');
  mkdirSync(join(home, 'pool'), { recursive: true });
  const inside = await startLibvirt(home, cleanup);
  for (const words of [
    ['pool-define-as', pool, 'dir', '--target', join(home, 'pool')],
    ['pool-start', pool],
  ])
    await run(inside('virsh', '-q', '-c', 'qemu:///system', ...words));
  const boot = await makeBox(home, cleanup);
  const env = { ...process.env, PATH: sbin, VAGRANT_HOME: join(home, 'home'), VAGRANT_CHECKPOINT_DISABLE: '1' };
  const vagrant = (...args) => inside('vagrant', ...args);
  await run(vagrant('box', 'add', '--provider', 'libvirt', '--name', 'tsv-bench', join(home, 'tsv.box')), { env });
  return {
    version: `${(await run(vagrant('--version'), { env })).stdout.trim()}, libvirt ${(await run(inside('virsh', '--version'))).stdout.trim()}`,
    /** A project with one VM: times its commands. */
    project() {
      const folder = join(home, 'project');
      mkdirSync(folder, { recursive: true });
      writeFileSync(join(folder, 'Vagrantfile'), vagrantfile(boot, join(home, 'pool')));
      return { time: (...args) => time(vagrant(...args), { cwd: folder, env }) };
    },
  };
}

/** @returns a command line that runs another one where the libvirtd is */
async function startLibvirt(home, cleanup) {
  writeFileSync(
    join(home, 'qemu.conf'),
    'user = "root"\ngroup = "root"\nsecurity_driver = "none"\nstdio_handler = "file"\ncgroup_controllers = []\nremember_owner = 0\n',
  );
  writeFileSync(join(home, 'libvirtd.conf'), 'auth_unix_rw = "none"\nauth_unix_ro = "none"\n');
  // The shell stays as their init: libvirt waits for the QEMUs that it ends to be gone, and they are not its children.
  const script = `
    for folder in /run /var/lib /var/cache /var/log; do mount -t tmpfs tmpfs $folder; done
    mkdir -p /var/log/libvirt/qemu /run/etc
    cp -a /etc/. /run/etc/
    mount --bind /run/etc /etc
    # The user that libvirt was built for may not be there; it is not used.
    getent passwd libvirt-qemu || echo 'libvirt-qemu:x:64055:64055::/:/usr/sbin/nologin' >>/etc/passwd
    getent group libvirt-qemu || echo 'libvirt-qemu:x:64055:' >>/etc/group
    cp qemu.conf /etc/libvirt/
    ip link set lo up
    libvirtd -f libvirtd.conf &
    wait`;
  const log = openSync(join(home, 'libvirtd.log'), 'a');
  const child = spawn(
    'setpriv',
    // Were this process killed, libvirtd would go with it, and with libvirtd its namespaces and all that runs in them.
    [
      '--pdeathsig',
      'KILL',
      'unshare',
      '--net',
      '--mount',
      '--pid',
      '--fork',
      '--kill-child',
      '--mount-proc',
      'sh',
      '-ec',
      script,
    ],
    { cwd: home, env: { ...process.env, PATH: sbin }, stdio: ['ignore', log, log] },
  );
  const exited = once(child, 'exit');
  let over = false;
  exited.then(() => {
    over = true;
  });
  cleanup(async () => {
    child.kill('SIGKILL');
    await exited;
  });
  const outer = child.pid;
  const pidInside = () => readFileSync(`/proc/${outer}/task/${outer}/children`, 'utf8').trim();
  for (;;) {
    if (over) throw new Error(`libvirtd ended:\n${readFileSync(join(home, 'libvirtd.log'), 'utf8').slice(-1000)}`);
    const pid = pidInside();
    const inside = (...argv) => ['nsenter', '-t', pid, '--net', '--mount', '--pid', `--wd=.`, ...argv];
    try {
      await run(inside('virsh', '-q', '-c', 'qemu:///system', 'list'), { cwd: home });
      return inside;
    } catch {
      await delay(100); // it does not say when it listens
    }
  }
}

/**
 * Makes a Vagrant box of our own: the disk of a VM of tsv, with Vagrant's user in it, booted by the same kernel and initrd.
 * @returns its boot files, the words for its kernel, and the key that it lets in
 */
async function makeBox(home, cleanup) {
  const key = join(home, 'key');
  await run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', 'vagrant', '-f', key]);
  const publicKey = readFileSync(`${key}.pub`, 'utf8').trim();
  const project = createProject(
    join(home, 'box'),
    `version: 1
project: vagrant-box
machines:
  vm:
    box: ${boxName}
    memory: 512M
    warm: false
    provision:
      - name: vagrant
        shell:
          inline: |
            useradd -m -s /bin/bash -p '*' vagrant
            install -d -m 700 -o vagrant -g vagrant /home/vagrant/.ssh
            echo '${publicKey}' >/home/vagrant/.ssh/authorized_keys
            chown vagrant:vagrant /home/vagrant/.ssh/authorized_keys
            echo 'vagrant ALL=(ALL) NOPASSWD:ALL' >/etc/sudoers.d/vagrant
`,
  );
  cleanup(() => project.time('destroy', '-f', '--quiet'));
  await project.time('up', '--quiet');
  const state = JSON.parse(readFileSync(join(project.dir, '.ts-vm/state.json'), 'utf8'));
  const argv = readFileSync(`/proc/${state.machines.vm.process.pid}/cmdline`, 'utf8').split('\0');
  const after = (word) => argv[argv.indexOf(word) + 1];
  const words = after('-append').split(' ');
  await project.time('halt', '--quiet');
  const disk = join(project.dir, '.ts-vm/machines/vm/disk.qcow2');
  await run(['qemu-img', 'convert', '-O', 'qcow2', disk, join(home, 'box.img')]);
  await run([...tsv, 'destroy', '-f', '--quiet'], { cwd: project.dir });
  writeFileSync(join(home, 'metadata.json'), '{"provider":"libvirt","format":"qcow2","virtual_size":8}\n');
  writeFileSync(join(home, 'Vagrantfile'), 'Vagrant.configure("2") { |config| }\n');
  await run(['tar', '-C', home, '-cf', join(home, 'tsv.box'), 'metadata.json', 'Vagrantfile', 'box.img']);
  return {
    key,
    kernel: after('-kernel'),
    initrd: after('-initrd'),
    // A machine-id of its own, as Vagrant's boxes have.
    cmdline: words.filter((word) => !word.startsWith('systemd.')).join(' '),
  };
}

/** The same memory, CPUs, kind of machine and emulation as the VM of tsv has; nothing shared, no key exchanged. */
const vagrantfile = ({ key, kernel, initrd, cmdline }, poolPath) => `Vagrant.configure("2") do |config|
  config.vm.box = "tsv-bench"
  config.vm.box_check_update = false
  config.vm.synced_folder ".", "/vagrant", disabled: true
  config.ssh.insert_key = false
  config.ssh.private_key_path = ${JSON.stringify(key)}
  config.vm.provider :libvirt do |libvirt|
    libvirt.uri = "qemu:///system"
    libvirt.driver = "qemu"
    libvirt.cpu_mode = "maximum"
    libvirt.machine_type = "q35"
    libvirt.memory = 512
    libvirt.cpus = 1
    libvirt.graphics_type = "none"
    libvirt.video_type = "none"
    libvirt.kernel = ${JSON.stringify(kernel)}
    libvirt.initrd = ${JSON.stringify(initrd)}
    libvirt.cmd_line = ${JSON.stringify(cmdline)}
    libvirt.storage_pool_name = ${JSON.stringify(pool)}
    libvirt.storage_pool_path = ${JSON.stringify(poolPath)}
  end
end
`;
