#!/bin/sh
# Fetches the servers of the tests once, without installing them: OpenSSH's sshd and moto's S3, into ~/.cache/provincial-hub.
set -eu
cache="${XDG_CACHE_HOME:-$HOME/.cache}/provincial-hub"

if [ ! -x "$cache/openssh/root/usr/sbin/sshd" ]; then
    mkdir -p "$cache/openssh"
    cd "$cache/openssh"
    apt-get download openssh-server openssh-sftp-server libwrap0
    for package in *.deb; do dpkg -x "$package" root; done
fi

if [ ! -x "$cache/moto/bin/moto_server" ]; then
    python3 -m venv "$cache/moto"
    "$cache/moto/bin/pip" install -q 'moto[server]==5.2.5'
fi
