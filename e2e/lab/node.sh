#!/bin/sh
# Process 1 of a node of the lab. It is started in a network, mount, process, host name and IPC namespace of its own; when
# it is killed, the kernel ends everything on the node and unmounts what was mounted here.
# Environment: STATE, the lab's directory; NODE, the node's name; PROXY, kube-proxy with its flags.
set -eu
own=$STATE/nodes/$NODE

# mount -n: without it, mount keeps a table of its own below /run, which moves away here.
hostname "$NODE"
mount -n -t proc proc /proc

# /sys must show the interfaces of this network namespace, and the control groups of the machine in their place.
mount -n --rbind /sys/fs/cgroup "$own/cgroup"
mount -n -t sysfs sysfs /sys
mount -n --rbind "$own/cgroup" /sys/fs/cgroup

# /run starts empty, so that nodes share no socket and no lock, but for the lab's directory.
mount -n -t tmpfs -o mode=755 tmpfs "$own/run"
mkdir "$own/run/lab" "$own/run/lock" "$own/run/netns" "$own/run/settings"
mount -n --bind "$STATE" "$own/run/lab"
mount -n --move "$own/run" /run
own=/run/lab/nodes/$NODE

# The disk of the node: it survives a crash.
mount -n --bind "$own/var/lib" /var/lib
mount -n --bind "$own/var/log" /var/log

# No host of the lab can look names up. Where the file is missing, programs do not try.
if [ -e /etc/resolv.conf ]; then
	mount -n --bind /dev/null /etc/resolv.conf
fi

# The kubelet would write these for the whole machine where they differ from what it wants: let it find them right.
setting() {
	[ -e "/proc/sys/$1" ] || return 0
	file=/run/settings/$(echo "$1" | tr / .)
	echo "$2" >"$file"
	mount -n --bind "$file" "/proc/sys/$1"
}
setting vm/overcommit_memory 1
setting vm/panic_on_oom 0
setting kernel/panic 10
setting kernel/panic_on_oops 1
setting kernel/keys/root_maxkeys 1000000
setting kernel/keys/root_maxbytes 25000000

# keep NAME COMMAND...: run a service, and again a second after it ends.
keep() {
	log=/run/lab/logs/$NODE/$1.log
	shift
	while :; do
		"$@" </dev/null >>"$log" 2>&1 || echo "$1 ended with status $?" >>"$log"
		sleep 1
	done &
}

keep containerd containerd --config "$own/etc/containerd.toml"
attempts=0
until ctr --connect-timeout 1s version >/dev/null 2>&1; do
	attempts=$((attempts + 1))
	if [ "$attempts" -ge 300 ]; then
		echo "containerd does not answer" >&2
		exit 1
	fi
	sleep 0.05
done
for image in /run/lab/images/*.tar; do
	ctr -n k8s.io images import "$image" >/dev/null
done
# Which addresses it reports may change from one start to the next.
kubelet() {
	/run/lab/bin/kubelet --config="$own/etc/kubelet.yaml" --kubeconfig="/run/lab/kubeconfig/$NODE" \
		--hostname-override="$NODE" --node-ip="$(cat "$own/etc/node-ips")" --v=1
}
keep kubelet kubelet
# A program and its flags.
keep kube-proxy /run/lab/bin/$PROXY

# Process 1 inherits orphans: the shell collects them while it waits.
while :; do
	wait || :
done
