#!/usr/bin/env bash
# First process of namespaces of its own: starts the cluster and lives until its standard input
# ends. Whatever was started in them ends with it, and their network and mounts vanish.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
nodes=(node1 node2 node3 node4)

ip link set lo up
# Where 127.0.0.1 is the only address, the C library finds no address for any name.
ip address add 127.0.0.2/8 dev lo
hostname login
mount --types tmpfs --options mode=755 tmpfs /run
mkdir /run/log /run/munge /run/spool /run/state "${nodes[@]/#//run/spool/}"
printf '127.0.0.1 %s\n' localhost login "${nodes[@]}" > /run/hosts
mount --bind /run/hosts /etc/hosts
# Jobs remove stale segments of shared memory, and see no process outside.
mount --types tmpfs tmpfs /dev/shm

# Slurm looks for PMIx under a name that Debian has in the package for developers only.
pmix=(/usr/lib/*/pmix2/lib)
if [ -e "${pmix[0]}/libpmix.so.2" ] && [ ! -e "${pmix[0]}/libpmix.so" ]; then
    mkdir /run/pmix /run/pmix-work
    ln --symbolic libpmix.so.2 /run/pmix/libpmix.so
    mount --types overlay --options "lowerdir=${pmix[0]},upperdir=/run/pmix,workdir=/run/pmix-work" \
        overlay "${pmix[0]}"
fi

# Slurm takes nothing but a device file for a GPU.
mknod /run/gpu0 c 1 3
mknod /run/gpu1 c 1 3
printf '%s\n' AutoDetect=off 'NodeName=node[1-4] Name=gpu File=/run/gpu[0-1]' > /run/gres.conf
cp "$here/slurm.conf" /run/slurm.conf
export SLURM_CONF=/run/slurm.conf

(umask 077 && head --bytes=128 /dev/urandom > /run/munge.key)
munged --foreground --key-file=/run/munge.key --seed-file=/run/munge.seed &> /run/log/munged &
until [ -S /run/munge/munge.socket.2 ]; do sleep 0.02; done
slurmctld -D &> /run/log/slurmctld &
for node in "${nodes[@]}"; do
    # MPI takes for one node what has one name and one /dev/shm.
    # shellcheck disable=SC2016
    unshare --uts --mount --propagation private bash -c \
        'hostname "$0" && mount --types tmpfs tmpfs /dev/shm && exec slurmd -D -N "$0"' \
        "$node" &> "/run/log/$node" &
done
read -r || true
