#!/bin/sh
# nginx that serves the folder $1.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qqy --no-install-recommends nginx-light >/dev/null

cat >/etc/nginx/sites-available/default <<CONF
server {
	listen 80 default_server;
	root $1;
}
CONF
systemctl reload-or-restart nginx
