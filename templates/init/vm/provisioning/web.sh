#!/bin/sh
# nginx that serves the folder $1.
set -eu
root=$1

export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -qy --no-install-recommends nginx-light curl

mkdir -p "$root"
[ -e "$root/index.html" ] || echo "<h1>$(hostname)</h1>" >"$root/index.html"
cat >/etc/nginx/sites-available/default <<CONF
server {
	listen 80 default_server;
	root $root;
}
CONF
systemctl reload-or-restart nginx
