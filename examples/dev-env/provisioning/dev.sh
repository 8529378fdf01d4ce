#!/bin/sh
# What is needed to work: add your compilers and tools.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qqy --no-install-recommends redis-tools >/dev/null
