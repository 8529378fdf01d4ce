// test/unit/ssh/container.ts
import { spawn as spawn2 } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir, userInfo as userInfo2 } from "node:os";
import { delimiter, join as join3 } from "node:path";

// src/ssh/keys.ts
import { createHash, generateKeyPairSync, randomBytes } from "node:crypto";

// src/model/errors.ts
var TsvError = class _TsvError extends Error {
  name = "TsvError";
  code;
  hint;
  details;
  exitCode;
  constructor(code, message, options = {}) {
    super(message, options.cause === void 0 ? void 0 : { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
    this.details = options.details ?? [];
    this.exitCode = options.exitCode ?? 1;
  }
  /** The form that crosses the agent's socket. */
  toJSON() {
    return {
      code: this.code,
      message: this.message,
      ...this.hint === void 0 ? {} : { hint: this.hint },
      ...this.details.length === 0 ? {} : { details: this.details },
      exitCode: this.exitCode
    };
  }
  static fromJSON(data) {
    return new _TsvError(data.code, data.message, data);
  }
};

// src/ssh/keys.ts
var type = "ssh-ed25519";
function string(value) {
  const bytes = Buffer.from(value);
  return Buffer.concat([uint32(bytes.length), bytes]);
}
function uint32(value) {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
function generateKeyPair(comment) {
  const jwk = generateKeyPairSync("ed25519").privateKey.export({ format: "jwk" });
  const seed = Buffer.from(jwk.d ?? "", "base64url");
  const point = Buffer.from(jwk.x ?? "", "base64url");
  const blob = Buffer.concat([string(type), string(point)]);
  const check = randomBytes(4);
  const secret = Buffer.concat([
    check,
    check,
    string(type),
    string(point),
    string(Buffer.concat([seed, point])),
    string(comment)
  ]);
  const padding = Buffer.from(Array.from({ length: (8 - secret.length % 8) % 8 }, (_, i) => i + 1));
  const file = Buffer.concat([
    Buffer.from("openssh-key-v1\0"),
    string("none"),
    string("none"),
    string(""),
    uint32(1),
    string(blob),
    string(Buffer.concat([secret, padding]))
  ]);
  const body = file.toString("base64").replace(/.{70}/g, "$&\n").trimEnd();
  return {
    privateKey: `-----BEGIN OPENSSH PRIVATE KEY-----
${body}
-----END OPENSSH PRIVATE KEY-----
`,
    publicKey: `${type} ${blob.toString("base64")}${comment === "" ? "" : ` ${comment}`}`
  };
}
function parsePublicKey(line) {
  const [name = "", base64 = ""] = line.trim().split(/\s+/);
  const blob = Buffer.from(base64, "base64");
  const length = blob.length >= 4 ? blob.readUInt32BE() : -1;
  if (name === "" || blob.toString("latin1", 4, 4 + length) !== name) {
    throw new TsvError("TSV_SSH", "not a public key of OpenSSH", { details: [line.slice(0, 100)] });
  }
  return { type: name, blob };
}
function knownHostsLine(names, publicKey) {
  const { type: type2, blob } = parsePublicKey(publicKey);
  return `${names.join(",")} ${type2} ${blob.toString("base64")}
`;
}

// src/ssh/server.ts
import { timingSafeEqual } from "node:crypto";

// src/ssh/pump.ts
function copy(source, target) {
  return new Promise((resolve, reject) => {
    let writing = false;
    let ended = false;
    const done = (error) => {
      source.off("data", onData).off("end", onEnd).off("error", done).off("close", onSourceClose);
      target.off("close", onTargetClose).off("error", done);
      if (error === void 0) return resolve();
      source.destroy();
      reject(error);
    };
    const onData = (chunk) => {
      source.pause();
      writing = true;
      target.write(chunk, (error) => {
        writing = false;
        if (error) return done(error);
        if (ended) return done();
        source.resume();
      });
    };
    const onEnd = () => {
      ended = true;
      if (!writing) done();
    };
    const onSourceClose = () => {
      if (!ended && !source.readableEnded) done(new Error("the source closed before its end"));
    };
    const onTargetClose = () => done(new Error("the target closed"));
    source.on("error", done).on("close", onSourceClose).on("end", onEnd);
    target.on("close", onTargetClose).on("error", done);
    if (source.readableEnded) return onEnd();
    source.on("data", onData);
  });
}
function quick(stream) {
  stream.setNoDelay?.(true);
}

// src/ssh/server-session.ts
var loginShell = `s=/bin/sh
while IFS=: read -r n _ _ _ _ _ p; do [ "$n" != "$1" ] || { s=\${p:-/bin/sh}; break; }; done </etc/passwd
export SHELL="$s"
exec "$s" -l`;
var sftpServers = [
  "/usr/lib/openssh/sftp-server",
  "/usr/libexec/openssh/sftp-server",
  "/usr/lib/ssh/sftp-server",
  "/usr/libexec/sftp-server"
];
var runSftpServer = `for f; do [ ! -x "$f" ] || exec "$f"; done
echo 'tsv: this machine has no sftp-server: install openssh-sftp-server in it, or use scp -O' >&2
exit 127`;
function serveSession(session, user, transport, over) {
  let pty;
  const env = { USER: user, LOGNAME: user };
  let running;
  let left = false;
  const early = [];
  const tell = (action) => {
    if (running === void 0) early.push(action);
    else action(running);
  };
  const run = async (channel, argv, options) => {
    let started;
    try {
      started = await transport.exec({ argv, env, user, ...options.pty && pty !== void 0 ? { pty } : {} });
    } catch (error) {
      return refuse(channel, error);
    }
    running = started;
    for (const action of early) action(started);
    if (left) abandon(started);
    await relay(channel, started);
    running = void 0;
  };
  const leave = () => {
    left = true;
    if (running !== void 0) abandon(running);
    running = void 0;
    over();
  };
  session.on("pty", (accept, _reject, info) => {
    pty = { cols: info.cols || 80, rows: info.rows || 24, term: info.term || "dumb" };
    accept?.();
  });
  session.on("window-change", (accept, _reject, { cols, rows }) => {
    tell((started) => started.resize(cols, rows));
    accept?.();
  });
  session.on("env", (accept, reject, info) => {
    const { key, val } = info;
    if (!/^(LANG|LC_[A-Z]+|TERM|COLORTERM)$/.test(key) || val.includes("\0")) return void reject?.();
    env[key] = val;
    accept?.();
  });
  session.on("signal", (accept, _reject, { name }) => {
    tell((started) => started.signal(name.replace(/^SIG/, "")));
    accept?.();
  });
  session.on("exec", (accept, _reject, { command }) => {
    const channel = accept();
    if (channel !== void 0) void run(channel, ["/bin/sh", "-c", command], { pty: true });
  });
  session.on("shell", (accept) => {
    const channel = accept();
    if (channel !== void 0) void run(channel, ["/bin/sh", "-c", loginShell, "sh", user], { pty: true });
  });
  session.on("subsystem", (accept, reject, { name }) => {
    if (name !== "sftp") return reject();
    const channel = accept();
    if (channel !== void 0)
      void run(channel, ["/bin/sh", "-c", runSftpServer, "sh", ...sftpServers], { pty: false });
  });
  session.on("close", leave);
  return leave;
}
async function relay(channel, program) {
  channel.on("error", () => {
  });
  program.stdin.on("error", () => {
  });
  copy(channel, program.stdin).then(
    () => program.stdin.end(),
    () => program.stdin.destroy()
  );
  const output = Promise.allSettled([copy(program.stdout, channel), copy(program.stderr, channel.stderr)]);
  try {
    const { code, signal } = await program.exited;
    await output;
    const name = signal?.replace(/^SIG/, "");
    if (name !== void 0 && signals.includes(name)) channel.exit(name, false, "");
    else channel.exit(code);
    channel.end();
  } catch (error) {
    refuse(channel, error);
  }
}
var signals = ["ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2"];
function refuse(channel, error) {
  const lines = error instanceof TsvError ? [error.message, ...error.details] : [String(error)];
  channel.on("error", () => {
  });
  channel.stderr.write(lines.map((line) => `tsv: ${line}\r
`).join(""), () => {
    channel.exit(error instanceof TsvError && error.code === "TSV_COMMAND_NOT_FOUND" ? 127 : 255);
    channel.end();
  });
}
function abandon(program) {
  program.signal("HUP");
  program.stdin.destroy();
  program.stdout.destroy();
  program.stderr.destroy();
}

// src/ssh/server.ts
var loginGraceMs = 3e4;
async function createContainerSshServer(options) {
  const { default: ssh2 } = await import("ssh2");
  const allowed = parsePublicKey(options.authorizedKey);
  const verifier = ssh2.utils.parseKey(options.authorizedKey);
  if (verifier instanceof Error) throw verifier;
  const mayLogIn = (context) => {
    if (context.method !== "publickey" || !sameBytes(context.key.data, allowed.blob)) return false;
    if (context.signature === void 0) return true;
    return context.blob !== void 0 && verifier.verify(context.blob, context.signature, context.hashAlgo) === true;
  };
  return {
    accept(stream) {
      const server = new ssh2.Server({
        hostKeys: [options.hostKey],
        ident: "tsv",
        // The stream is local: its end is seen at once, and a client stopped with Ctrl-Z must stay connected.
        keepaliveInterval: 2147483647,
        // In JavaScript, chacha20-poly1305 is many times slower than AES of OpenSSL; clients would prefer it.
        algorithms: {
          cipher: ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr"]
        }
      });
      const grace = setTimeout(() => stream.destroy(), loginGraceMs);
      server.on("connection", (client) => {
        let user = options.defaultUser;
        client.on("error", () => {
        });
        client.on("authentication", (context) => {
          if (context.username !== "") user = context.username;
          if (mayLogIn(context)) context.accept();
          else context.reject(["publickey"]);
        });
        client.once("ready", () => {
          clearTimeout(grace);
          serve(client, user, options.transport);
        });
      });
      return new Promise((resolve) => {
        stream.once("close", () => {
          clearTimeout(grace);
          resolve();
        });
        stream.once("end", () => stream.end());
        quick(stream);
        server.injectSocket(stream);
      });
    }
  };
}
function sameBytes(a, b) {
  return a.length === b.length && timingSafeEqual(a, b);
}
function serve(client, user, transport) {
  const hangUps = /* @__PURE__ */ new Set();
  client.on("session", (accept) => {
    const hangUp = serveSession(accept(), user, transport, () => hangUps.delete(hangUp));
    hangUps.add(hangUp);
  });
  client.once("close", () => {
    for (const hangUp of hangUps) hangUp();
  });
  client.on("tcpip", (accept, reject, request) => {
    if (!isLocal(request)) return reject();
    transport.dial(request.destPort).then(
      (remote) => join(accept(), remote),
      () => reject()
    );
  });
}
function isLocal({ destIP }) {
  return destIP === "localhost" || destIP === "::1" || /^127\.\d+\.\d+\.\d+$/.test(destIP);
}
function join(channel, remote) {
  if (channel === void 0) return void remote.destroy();
  const outward = copy(remote, channel).then(() => channel.eof());
  const inward = copy(channel, remote).then(() => remote.end());
  remote.on("error", () => channel.close());
  channel.on("error", () => {
  });
  channel.once("close", () => remote.destroy());
  Promise.all([outward, inward]).then(
    () => channel.close(),
    () => {
      channel.close();
      remote.destroy();
    }
  );
}

// test/support/host-transport.ts
import { spawn } from "node:child_process";
import { randomBytes as randomBytes2 } from "node:crypto";
import { createReadStream, createWriteStream, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { chmod, open, rename, rm } from "node:fs/promises";
import { connect } from "node:net";
import { constants, userInfo } from "node:os";
import { dirname, join as join2 } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
var quietMs = 300;
function hostTransport(home) {
  const requests = [];
  const running = /* @__PURE__ */ new Map();
  let severed = false;
  let resolveClosed = () => {
  };
  const closed = new Promise((resolve) => {
    resolveClosed = resolve;
  });
  const exec = async (request) => {
    if (severed) throw new TsvError("TSV_NOT_RUNNING", "the machine is gone");
    requests.push(request);
    const { user = "root" } = request;
    if (user !== "root" && user !== userInfo().username) {
      throw new TsvError("TSV_SSH", `no user ${user} in the machine`);
    }
    const argv = request.pty === void 0 ? request.argv : onTerminal(request.argv, request.pty);
    const child = spawn(argv[0] ?? "", argv.slice(1), {
      cwd: request.cwd ?? home,
      env: { PATH: process.env.PATH, HOME: home, TERM: request.pty?.term, ...request.env },
      detached: true,
      // its own process group, which signal() ends as a whole
      stdio: ["pipe", "pipe", "pipe"]
    });
    await new Promise((resolve, reject) => {
      child.once("spawn", resolve);
      child.once("error", (error) => {
        reject(new TsvError("TSV_COMMAND_NOT_FOUND", `${request.argv[0]}: ${error.message}`, { cause: error }));
      });
    });
    const exited = new Promise((resolve, reject) => {
      running.set(child, reject);
      child.once("exit", (code, signal) => {
        const result = signal === null ? { code: code ?? 255 } : { code: 128 + constants.signals[signal], signal: signal.slice(3) };
        void drained(child).then(() => {
          running.delete(child);
          resolve(result);
        });
      });
    });
    exited.catch(() => {
    });
    child.stdin.on("error", () => {
    });
    return {
      stdin: child.stdin,
      stdout: child.stdout,
      stderr: request.pty === void 0 ? child.stderr : Readable.from([]),
      exited,
      resize: (cols, rows) => resizeTerminal(child.pid, cols, rows),
      signal: (name) => killGroup(child, `SIG${name}`)
    };
  };
  return {
    requests,
    exec,
    async put(content, path, options = {}) {
      const temporary = join2(dirname(path), `.tsv-${randomBytes2(6).toString("hex")}`);
      try {
        await pipeline(
          Buffer.isBuffer(content) ? Readable.from([content]) : content,
          createWriteStream(temporary, { flags: "wx", mode: 384 })
        );
        await chmod(temporary, options.mode ?? 420);
        if (options.owner !== void 0) {
          const { code } = await (await exec({ argv: ["chown", options.owner, temporary] })).exited;
          if (code !== 0) throw new TsvError("TSV_SSH", `cannot write ${path}: no owner ${options.owner}`);
        }
        await rename(temporary, path);
      } catch (error) {
        await rm(temporary, { force: true });
        throw error instanceof TsvError ? error : new TsvError("TSV_SSH", `cannot write ${path} in the machine: ${error.message}`);
      }
    },
    async get(path) {
      const file = await open(path).catch((error) => {
        throw new TsvError("TSV_SSH", `cannot read ${path} in the machine: ${error.message}`);
      });
      return createReadStream("", { fd: file });
    },
    dial: (port) => new Promise((resolve, reject) => {
      const socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true }, () => resolve(socket));
      socket.once("error", reject);
    }),
    closed,
    close: () => resolveClosed(),
    sever() {
      severed = true;
      for (const [child, reject] of running) {
        reject(new TsvError("TSV_SSH", "the connection to the machine was lost"));
        killGroup(child, "SIGKILL");
      }
      resolveClosed();
    }
  };
}
async function drained(child) {
  const outputs = [child.stdout, child.stderr].filter((stream) => stream !== null);
  for (let before = -1; outputs.some((stream) => !stream.readableEnded); ) {
    const read = outputs.reduce((sum, stream) => sum + (stream.bytesRead ?? 0), 0);
    const behind = outputs.some((stream) => stream.readableLength > 0);
    if (read === before && !behind) {
      for (const stream of outputs) stream.push(null);
      return;
    }
    before = read;
    await Promise.race([
      Promise.all(
        outputs.map((stream) => stream.readableEnded ? void 0 : new Promise((r) => stream.once("end", r)))
      ),
      new Promise((resolve) => setTimeout(resolve, quietMs))
    ]);
  }
}
function killGroup(child, signal) {
  if (child.pid === void 0 || child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
  }
}
var quote = (word) => `'${word.replaceAll("'", "'\\''")}'`;
function onTerminal(argv, { cols, rows }) {
  const command = `stty rows ${rows} cols ${cols}; exec ${argv.map(quote).join(" ")}`;
  return ["script", "--quiet", "--return", "--command", command, "/dev/null"];
}
function resizeTerminal(pid, cols, rows) {
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, "utf8");
      if (Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]) !== pid) continue;
      spawn("stty", ["-F", readlinkSync(`/proc/${entry}/fd/0`), "rows", String(rows), "cols", String(cols)]);
    } catch {
    }
  }
}

// test/unit/ssh/container.ts
function runWith(argv, input = "", cwd) {
  return new Promise((resolve, reject) => {
    const child = spawn2(argv[0] ?? "", argv.slice(1), { cwd, stdio: ["pipe", "pipe", "pipe"] });
    const stdout = [];
    let stderr = "";
    child.stdout.on("data", (chunk) => stdout.push(chunk));
    child.stderr.on("data", (chunk) => {
      stderr += chunk.toString();
    });
    child.stdin.on("error", () => {
    });
    child.stdin.end(input);
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, stdout: Buffer.concat(stdout), stderr }));
  });
}
async function startContainer() {
  const dir = mkdtempSync(join3(tmpdir(), "tsv-ssh-"));
  const host = generateKeyPair("host");
  const login = generateKeyPair("login");
  const transport = hostTransport(dir);
  const user = userInfo2().username;
  const ssh = await createContainerSshServer({
    hostKey: host.privateKey,
    authorizedKey: login.publicKey,
    transport,
    defaultUser: user
  });
  const sockets = /* @__PURE__ */ new Set();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    void ssh.accept(socket).then(() => sockets.delete(socket));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  const identity = join3(dir, "id");
  const known = join3(dir, "known_hosts");
  writeFileSync(identity, login.privateKey, { mode: 384 });
  writeFileSync(known, knownHostsLine(["box"], host.publicKey));
  const set = {
    Port: port,
    HostName: "127.0.0.1",
    HostKeyAlias: "box",
    User: user,
    IdentityFile: identity,
    IdentitiesOnly: "yes",
    UserKnownHostsFile: known,
    GlobalKnownHostsFile: "/dev/null",
    StrictHostKeyChecking: "yes",
    BatchMode: "yes",
    LogLevel: "ERROR"
  };
  const options = ["-F", "/dev/null", ...Object.entries(set).flatMap(([name, value]) => ["-o", `${name}=${value}`])];
  return {
    dir,
    port,
    transport,
    hostKey: host.publicKey,
    loginKey: login.privateKey,
    options,
    sockets,
    ssh: (...args) => runWith(["ssh", ...options, ...args]),
    sshWith: (input, ...args) => runWith(["ssh", ...options, ...args], input),
    async stop() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
      rmSync(dir, { recursive: true, force: true });
    }
  };
}

// ../../tmp/sshx/serve.ts
import { writeFileSync as writeFileSync2 } from "node:fs";
var box = await startContainer();
writeFileSync2("/tmp/sshx/opts", box.options.join("\n"));
var most = 0;
setInterval(() => {
  most = Math.max(most, process.memoryUsage.rss());
}, 20);
process.on("SIGTERM", async () => {
  console.log("peak rss MB", most >> 20);
  await box.stop();
  process.exit(0);
});
