#!/bin/sh
# What is needed to work: add your compilers and tools.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -qy --no-install-recommends redis-tools
