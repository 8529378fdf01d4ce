/** What a page of the manual says besides the command's own help. */
export interface About {
  /** How it works, in a few sentences; a paragraph each. */
  readonly text: readonly string[];
  /** Exit codes besides 0, 1 and 130. */
  readonly exit?: Readonly<Record<number, string>>;
  /** Commands that go with it. */
  readonly see: readonly string[];
  /** Of docs/. */
  readonly page: string;
}

/** By command. Groups of commands have one page together. */
export const about: Readonly<Record<string, About>> = {
  init: {
    text: [
      'Writes Tsfile.yaml from a template, with comments, and adds .ts-vm/ to .gitignore. Files that are there are not overwritten.',
    ],
    see: ['validate', 'up'],
    page: 'tsfile',
  },
  validate: {
    text: [
      'Reads the Tsfile and all that it names on this host, and prints every mistake at once: line, column, the line itself, and what was probably meant. Nothing is made or asked for.',
    ],
    see: ['plan'],
    page: 'tsfile',
  },
  plan: {
    text: [
      'Compares the Tsfile with the state and with what runs, and prints one line for each thing that up would do, with the reason. Nothing is changed.',
    ],
    exit: { 2: 'up would do something' },
    see: ['up', 'status'],
    page: 'architecture',
  },
  lock: {
    text: [
      'Asks the registries which images the names in the Tsfile stand for, and writes their digests into Tsfile.lock. What is in there already stays as it is. up does the same for what is missing.',
    ],
    exit: { 2: 'with --check: an image is another one now' },
    see: ['update', 'up'],
    page: 'images',
  },
  update: {
    text: [
      'Writes the images that the names stand for now into Tsfile.lock, in place of those that are there. The machines are made anew by the next up.',
    ],
    see: ['lock', 'up'],
    page: 'images',
  },
  volume: {
    text: [
      'Volumes are folders below .ts-vm/volumes in which containers of a project keep what is to outlive them. up makes them, destroy without names removes those that are not to be kept. remove is for the others, and for one alone: it refuses while a machine has the volume, be it one that does not run.',
    ],
    see: ['destroy', 'up', 'inspect'],
    page: 'living',
  },
  snapshot: {
    text: [
      'Keeps machines as they are at one moment, and sets them back to it. All machines that run stand still while they are saved, and go on together, also when one of them could not be saved: then there is no snapshot.',
      'Of a virtual machine that runs, memory and devices are saved with its disks, inside them: set back, it goes on where it was, its clock being set. Of one that does not run, the disks are saved. Of a container its files are saved, and not its processes, which begin anew; volumes of the project, disks of containers and shared folders are not in it, and it says so.',
      'A machine that is set back is what it was then: running or not, with its limits, addresses and finished steps. Where the Tsfile says something else by now, the next up takes that over. destroy removes the snapshots of what it removes.',
    ],
    see: ['up', 'destroy', 'pause'],
    page: 'snapshots',
  },
  up: {
    text: [
      'Makes, starts and provisions machines until everything is as the Tsfile says, as many at once as do not depend on each other. What is right already is left alone, so that up can be called again and again; what was interrupted goes on where it was.',
      'It returns when all machines can be reached, are provisioned and, where they have a check, are healthy. What is no longer in the Tsfile is removed; tsv plan says so before.',
      'With --timings it ends with a table of what took how long. A star marks what came one after the other because each needed the one before: only what has one makes up faster when it gets faster.',
      'With cache: true in the Tsfile, a new container is made from what the same provisioning steps have made before, and they do not run; --no-cache runs them all and keeps what they make.',
    ],
    see: ['plan', 'status', 'halt', 'destroy', 'reload', 'wait'],
    page: 'living',
  },
  reload: {
    text: [
      'Stops machines and starts them as the Tsfile has them now. Their disks and files stay, unless what has changed makes a machine anew, as with up; tsv plan says so before.',
    ],
    see: ['restart', 'up'],
    page: 'living',
  },
  wait: {
    text: [
      'Waits for machines without changing anything. It ends as soon as one of them cannot become by itself what is asked for.',
    ],
    see: ['up', 'status'],
    page: 'living',
  },
  provision: {
    text: [
      'Runs the provisioning steps of machines that run, one after the other within a machine, and stops a machine’s at the first that fails.',
      'With --no-cache, what the provision cache has of these steps is forgotten, so that the next new machine runs them, too.',
    ],
    see: ['up', 'store'],
    page: 'cache',
  },
  halt: {
    text: [
      'Asks machines to stop, dependents first, and ends those that have not stopped in their stop_timeout, which it says. Disks, files, addresses and keys stay for the next up. With the last machine the agent and the sandbox go, too.',
    ],
    see: ['up', 'destroy', 'kill'],
    page: 'living',
  },
  suspend: {
    text: [
      'Stops the CPUs of virtual machines, writes their memory and devices into their disks, and ends them, dependents first. With the last machine the agent and the sandbox go, too. What cannot be saved runs on.',
    ],
    see: ['resume', 'pause', 'halt', 'snapshot'],
    page: 'snapshots',
  },
  resume: {
    text: [
      'Lets suspended virtual machines go on where they were, with their addresses and forwards, and starts the containers that suspend has halted. The Tsfile is not read: what has changed in it is for the next up.',
    ],
    see: ['suspend', 'up'],
    page: 'snapshots',
  },
  destroy: {
    text: [
      'Stops machines and removes them with their disks and files. Without names the whole project goes: its networks, its processes, its volumes and the folder .ts-vm. Volumes and disks of containers that the Tsfile keeps stay, and it says where; where names are given, all volumes stay. What lies in the store stays. It asks first, unless --force is given.',
    ],
    see: ['halt', 'up', 'volume', 'store'],
    page: 'state',
  },
  status: {
    text: [
      'Shows the machines of the Tsfile and those that are there: their state, addresses, forwarded ports and finished provisioning steps, and why one is down. It looks at the state and at what runs, and needs no agent.',
    ],
    see: ['inspect', 'ls', 'events'],
    page: 'living',
  },
  inspect: {
    text: ['Prints what is known of machines, whether they run or not. What is not known is not there.'],
    see: ['status', 'stats'],
    page: 'living',
  },
  ls: {
    text: [
      'Shows each project of this user with its machines, its agent, since when it runs, and its folder. Projects are found by what runs and by their state, and so are shown truly after any crash.',
    ],
    see: ['status'],
    page: 'living',
  },
  stats: {
    text: [
      'Shows a table each second until Ctrl-C. The numbers of a container come from its control groups, or where it has none from its processes; those of a virtual machine are QEMU’s.',
    ],
    see: ['top', 'inspect'],
    page: 'living',
  },
  top: {
    text: [
      'Shows the processes of a machine by their numbers in it. Those of a container are read on the host; in a virtual machine ps is run.',
    ],
    see: ['stats'],
    page: 'living',
  },
  logs: {
    text: [
      'Shows the standard output and error of containers and the serial consoles of virtual machines. One machine comes out byte for byte; several are merged by time, each line behind the name of its machine.',
    ],
    see: ['events', 'status'],
    page: 'living',
  },
  events: {
    text: [
      'Shows what happened to machines: made, started, ready, healthy and not, ended and why, restarted, removed. Kept in the project’s folder, up to a limit.',
    ],
    see: ['logs', 'status'],
    page: 'living',
  },
  port: {
    text: ['Shows where on this host the ports of a machine are reached, for machines that run.'],
    see: ['status'],
    page: 'ssh',
  },
  ssh: {
    text: [
      'Opens a login shell in a machine, with a terminal if there is one here, or gives it a command line and ends with its exit code. Containers are entered without an SSH server.',
    ],
    see: ['exec', 'ssh-config', 'cp'],
    page: 'ssh',
  },
  exec: {
    text: [
      'Runs a program in a machine, with its arguments as they are, and ends with its exit code. Standard input, output and error are passed through.',
    ],
    exit: { 126: 'the program cannot be executed', 127: 'there is no such program' },
    see: ['run', 'ssh', 'cp'],
    page: 'ssh',
  },
  run: {
    text: [
      'Makes a container in the project’s network, runs one command in it, and removes it when that has ended. Standard input, output and error are passed through, and the exit code is the command’s.',
    ],
    exit: { 126: 'the program cannot be executed', 127: 'there is no such program in the image' },
    see: ['exec', 'image'],
    page: 'living',
  },
  attach: {
    text: [
      'Joins the terminal with the serial console of a virtual machine. Of a container, whose first process has no input, the output is shown.',
    ],
    see: ['logs', 'ssh'],
    page: 'living',
  },
  cp: {
    text: [
      'Copies between this host and a machine, or between two machines, as a tar archive that nobody has to hold. A copy that fails leaves no half file.',
    ],
    see: ['exec', 'ssh-config'],
    page: 'living',
  },
  rename: {
    text: [
      'Gives a machine that does not run the name that stands in the Tsfile in its place. Nothing of it is made anew.',
    ],
    see: ['up', 'halt'],
    page: 'living',
  },
  clone: {
    text: [
      'Makes a machine that stands in the Tsfile and is not there yet as a copy of another one that does not run: its files, its disks, and which steps were done. Who the copy is, is its own: hostname, keys, machine-id, addresses, MACs.',
    ],
    see: ['rename', 'snapshot', 'up'],
    page: 'living',
  },
  restart: {
    text: ['Stops machines and starts them again as they are.'],
    see: ['reload', 'halt', 'up'],
    page: 'living',
  },
  pause: {
    text: ['Freezes the processes of containers, and stops the CPUs of virtual machines.'],
    see: ['unpause'],
    page: 'living',
  },
  unpause: {
    text: ['Lets machines that pause has stopped go on where they were.'],
    see: ['pause'],
    page: 'living',
  },
  kill: {
    text: ['Sends a signal to a container’s first process, or ends a virtual machine.'],
    see: ['halt', 'restart'],
    page: 'living',
  },
  'ssh-config': {
    text: [
      'Prints a section for each machine that OpenSSH understands. The way in is a ProxyCommand that calls tsv, so that no port has to be forwarded.',
    ],
    see: ['ssh', 'cp'],
    page: 'ssh',
  },
  oci: {
    text: [
      'The runtime that makes tsv’s containers, for bundles of the OCI runtime specification, and as --runtime of Docker and Podman.',
    ],
    see: ['exec'],
    page: 'oci',
  },
  box: {
    text: [
      'What virtual machines and plain Debian containers are made from. Boxes are built once and shared by all projects.',
      'box warm boots a virtual machine of a box once, and keeps its memory, devices and disk: new machines go on from there, as themselves, and are ready in a second where a boot takes five (emulated). Without options it does so for the machines of the Tsfile here. It also happens by itself, in the background, once a machine has booted; warm: false in the Tsfile turns it off.',
    ],
    see: ['image', 'store', 'up'],
    page: 'boxes',
  },
  image: {
    text: [
      'Images of registries, archives and other programs. up takes those that the Tsfile names by itself. Credentials are those of docker login and podman login.',
    ],
    see: ['store', 'lock', 'update'],
    page: 'images',
  },
  store: {
    text: [
      'The store holds boxes and images, each once, for all projects of this user. What a project uses is never removed.',
    ],
    see: ['image', 'box'],
    page: 'store',
  },
  doctor: {
    text: [
      'Looks at the kernel, at the programs that tsv calls and at what this user may do, and prints the command that mends what is missing. Nothing is changed.',
    ],
    see: ['up', 'kvm-check'],
    page: 'kvm',
  },
  'kvm-check': {
    text: [
      'Opens /dev/kvm, makes a virtual machine of one megabyte and runs two guests of a few instructions, one in real mode and one in 64-bit mode with page tables; what they compute is compared. Each step is shown with its time. The first one that fails is shown with its errno, what that means on this host, and the command that mends it. A step that hangs is ended after two seconds.',
      'It needs no Tsfile and no QEMU, and nothing stays. A kernel asks more of KVM than these guests do: the first start of a virtual machine tries one.',
    ],
    see: ['doctor', 'up'],
    page: 'kvm',
  },
};
