// Runs a bundle with the compiled code that the build kept of it: compiling it anew takes longer than running it.
'use strict';
const { readFileSync } = require('node:fs');
const { join } = require('node:path');
const vm = require('node:vm');

const fileOf = (name) => join(__dirname, `${name}.cjs`);

/** `NAME.cjs` of this folder, ready to be run. */
exports.compile = (name) => {
  const filename = fileOf(name);
  // Compiled code that was kept cannot import: it asks here.
  const wrapped = `(function (exports, require, module, __filename, importPart) {${readFileSync(filename, 'utf8')}\n})`;
  return new vm.Script(wrapped, { filename, cachedData: cachedCode(name) });
};

/** Its exports. */
exports.run = (name) => {
  const script = exports.compile(name);
  const bundle = { exports: {} };
  script.runInThisContext()(bundle.exports, require, bundle, fileOf(name), (part) => import(part));
  return bundle.exports;
};

function cachedCode(name) {
  try {
    return readFileSync(join(__dirname, `${name}-${process.version}.cache`));
  } catch {
    return undefined; // built by another version of Node
  }
}
