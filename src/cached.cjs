// Runs a bundle with the compiled code that the build kept of it: compiling it anew takes longer than running it.
'use strict';
const { readFileSync } = require('node:fs');
const { join } = require('node:path');
const vm = require('node:vm');

/** For the build: what has been compiled by now, by the bundle's name. */
exports.scripts = {};

/** The exports of `NAME.cjs` of this folder. */
exports.run = (name) => {
  const filename = join(__dirname, `${name}.cjs`);
  // Compiled code that was kept cannot import: it asks here.
  const script = new vm.Script(
    `(function (exports, require, module, __filename, importPart) {${readFileSync(filename, 'utf8')}\n})`,
    { filename, cachedData: cachedCode(name) },
  );
  exports.scripts[name] = script;
  const bundle = { exports: {} };
  script.runInThisContext()(bundle.exports, require, bundle, filename, (part) => import(part));
  return bundle.exports;
};

function cachedCode(name) {
  try {
    return readFileSync(join(__dirname, `${name}-${process.version}.cache`));
  } catch {
    return undefined; // built by another version of Node
  }
}
