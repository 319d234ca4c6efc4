#!/bin/sh
# namespace.sh COMMAND ARGS...: runs the command as root of a user namespace of its own, which has the host's users and a
# private binfmt_misc (Linux 6.7): there arm64 programs run through QEMU, and the host's own settings stay as they are.
set -e
if [ "$(id -u)" -ne 0 ]; then
	echo "namespace.sh: root is needed, for a namespace with all users" >&2
	exit 1
fi
folder=$(mktemp -d)
mkfifo "$folder/mapped"
# Unmapped, the shell has no capabilities: it gets them when it executes the second shell after the users are mapped.
unshare --user --mount --pid --fork --kill-child --mount-proc sh -c '
	read -r _ <"$1/mapped"
	shift
	exec sh -c "$@"' sh "$folder" '
	if [ -x /usr/bin/qemu-aarch64-static ] && [ "$(uname -m)" != aarch64 ]; then
		mount -t binfmt_misc binfmt /proc/sys/fs/binfmt_misc
		# machine 0xb7 in the header of an ELF file; F: the emulator is opened here, not in the chroot
		magic="\\x7fELF\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\xb7\\x00"
		mask="\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff"
		printf "%s" ":qemu-aarch64:M::$magic:$mask:/usr/bin/qemu-aarch64-static:PF" >/proc/sys/fs/binfmt_misc/register
	fi
	exec "$@"' sh "$@" &
child=$!
own=$(readlink /proc/self/ns/user)
while [ "$(readlink "/proc/$child/ns/user")" = "$own" ]; do sleep 0.02; done
for map in uid_map gid_map; do echo "0 0 65536" >"/proc/$child/$map"; done
echo >"$folder/mapped"
status=0
wait "$child" || status=$?
rm -r "$folder"
exit "$status"
