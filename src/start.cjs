#!/usr/bin/env node
'use strict';
// The container runtime is a program of its own.
require('./cached.cjs').run(process.argv[2] === 'oci' ? 'oci' : 'command');
