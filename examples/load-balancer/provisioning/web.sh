#!/bin/sh
# nginx with a page that names its machine.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -qy --no-install-recommends nginx-light

hostname >/var/www/html/index.html
