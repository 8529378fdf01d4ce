#!/bin/sh
# haproxy that takes turns between the machines given as arguments.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qqy --no-install-recommends haproxy >/dev/null

{
	cat <<CONF
defaults
	mode http
	timeout connect 2s
	timeout client 30s
	timeout server 30s

frontend www
	bind :80
	default_backend web

backend web
	balance roundrobin
	option redispatch 1
	retry-on conn-failure empty-response
CONF
	for machine in "$@"; do
		echo "	server $machine $machine:80 check"
	done
} >/etc/haproxy/haproxy.cfg

haproxy -c -q -f /etc/haproxy/haproxy.cfg
# A haproxy that runs already hands its port over to one with the new configuration.
if pgrep -x haproxy >/dev/null; then
	haproxy -D -f /etc/haproxy/haproxy.cfg -sf $(pgrep -x haproxy)
fi
