#!/usr/bin/env node
// `tsv oci` as one program, for those who take a runtime by its path alone.
'use strict';
process.argv.splice(2, 0, 'oci');
require('./tsv.js');
