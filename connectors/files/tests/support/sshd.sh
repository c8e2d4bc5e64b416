#!/bin/sh
# Runs sshd in the foreground on a port: sshd.sh <folder of its own> <port>. Its account `nhan` is made in a mount namespace of its
# own, so that nothing of the machine changes; root, or a kernel that lets users have namespaces, is needed.
set -eu
folder=$1
port=$2
cache="${XDG_CACHE_HOME:-$HOME/.cache}/provincial-hub/openssh/root"
if [ ! -f "$folder/host_key" ]; then
    ssh-keygen -q -t ed25519 -N '' -f "$folder/host_key"
    ssh-keygen -q -t ed25519 -N '' -f "$folder/key"
    ssh-keygen -q -t rsa -b 2048 -N 'câu mật' -f "$folder/rsa_key"
    cat "$folder/key.pub" "$folder/rsa_key.pub" > "$folder/authorized_keys"
    cp /etc/passwd "$folder/passwd"
    printf 'sshd:x:65533:65533::/run/sshd:/usr/sbin/nologin\nnhan:x:65532:65532::%s/home:/bin/sh\n' "$folder" >> "$folder/passwd"
    printf 'sshd:!:1::::::\nnhan:%s:1::::::\n' "$(openssl passwd -6 'mật khẩu bí mật')" > "$folder/shadow"
    mkdir -p "$folder/home"
    cat > "$folder/sshd_config" <<END
ListenAddress 127.0.0.1
Port $port
HostKey $folder/host_key
AuthorizedKeysFile $folder/authorized_keys
StrictModes no
UsePAM no
PidFile none
Subsystem sftp internal-sftp
END
    chmod 711 "$folder"
    chmod 644 "$folder/authorized_keys"
fi
exec unshare -m sh -c "
    mount --bind '$folder/passwd' /etc/passwd
    mount --bind '$folder/shadow' /etc/shadow
    mount -t tmpfs none /run && mkdir /run/sshd
    exec env LD_LIBRARY_PATH='$cache/usr/lib/x86_64-linux-gnu' '$cache/usr/sbin/sshd' -D -e -f '$folder/sshd_config'"
