#!/usr/bin/env node
// Starts the command with the compiled code that the build kept of it: compiling it anew takes longer than running it.
'use strict';
const { readFileSync } = require('node:fs');
const { join } = require('node:path');
const vm = require('node:vm');

// The container runtime is a program of its own.
const name = process.argv[2] === 'oci' ? 'oci' : 'command';
const filename = join(__dirname, `${name}.cjs`);

function cachedCode() {
  try {
    return readFileSync(join(__dirname, `${name}-${process.version}.cache`));
  } catch {
    return undefined; // built by another version of Node
  }
}

// Compiled code that was kept cannot import: it asks here.
const script = new vm.Script(
  `(function (exports, require, module, __filename, importPart) {${readFileSync(filename, 'utf8')}\n})`,
  { filename, cachedData: cachedCode() },
);
script.runInThisContext()({}, require, module, filename, (part) => import(part));

// For the build: what has been compiled by now.
module.exports = script;
