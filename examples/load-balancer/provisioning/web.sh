#!/bin/sh
# nginx with a page that names its machine.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qqy --no-install-recommends nginx-light >/dev/null

hostname >/var/www/html/index.html
