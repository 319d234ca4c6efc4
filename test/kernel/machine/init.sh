#!/run/rig/bin/sh
# Process 1 of the guest. First from the initial RAM disk, until the host's root is mounted; then again from there.
# RIG_MACHINE, of the kernel's command line, is qemu or uml. What differs from run to run is in /run/rig (boot.mjs).
export PATH=/run/rig/bin
R=/run/rig

fail() {
  echo "rig: $*" >&2
  echo "failed $*" >"${STATUS:-/dev/null}"
  end
}

# QEMU is told not to reboot; user-mode Linux would begin anew.
end() {
  if [ "$RIG_MACHINE" = uml ]; then poweroff -f; else reboot -f; fi
}

# host ro|rw TAG PATH AT: a folder of the host, by its path or (in QEMU) by its tag.
host() {
  if [ "$RIG_MACHINE" = uml ]; then
    mount -t hostfs -o "$1,$3" none "$4"
  else
    if [ "$1" = ro ]; then cache=loose; else cache=none; fi
    mount -t 9p -o "$1,cache=$cache,trans=virtio,version=9p2000.L,msize=512000" "$2" "$4"
  fi
}

first() {
  mount -t devtmpfs dev /dev
  mount -t proc proc /proc
  mount -t sysfs sys /sys
  [ -e /mods/order ] || (cd /mods && ls *.ko >order) || fail 'the initial RAM disk has no modules'
  while read -r module; do
    insmod "/mods/$module" || fail "module $module cannot be loaded"
  done </mods/order
  mkdir -p /lower /rw /new
  host ro root / /lower || fail 'the root of the host cannot be mounted'
  mount -t tmpfs -o size=75% rw /rw
  mkdir /rw/upper /rw/work
  mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work root /new || fail 'no overlay'
  for folder in proc sys dev; do mount -o move /$folder /new/$folder; done
  mount -t tmpfs -o mode=755 run /new/run
  cp -a $R /new/run
  cp /init /new$R/init
  exec switch_root /new $R/init second
}

# Where what the command prints goes, and how it ended.
ports() {
  if [ "$RIG_MACHINE" = uml ]; then
    STDOUT=/dev/ttyS0 STDERR=/dev/ttyS1 STATUS=/dev/ttyS2
    for port in 0 1 2 3; do stty raw -echo </dev/ttyS$port; done
    return
  fi
  for port in /sys/class/virtio-ports/*; do
    read -r name <"$port/name"
    case $name in
      rig.stdout) STDOUT=/dev/${port##*/} ;;
      rig.stderr) STDERR=/dev/${port##*/} ;;
      rig.status) STATUS=/dev/${port##*/} ;;
    esac
  done
}

# A Pi-like chip: 54 lines, their names, the label of the Pi 4's.
chip() {
  bank=/sys/kernel/config/gpio-sim/pi/bank0
  mkdir -p $bank
  echo 54 >$bank/num_lines
  echo pinctrl-bcm2711 >$bank/label
  lines=
  for n in 0 1 2 3 4; do for m in 0 1 2 3 4 5 6 7 8 9; do lines="$lines ${n#0}$m"; done; done
  lines="$lines 50 51 52 53"
  folders=
  for n in $lines; do folders="$folders $bank/line$n"; done
  mkdir $folders
  for n in $lines; do echo "GPIO$n" >$bank/line$n/name; done
  echo 1 >/sys/kernel/config/gpio-sim/pi/live || fail 'the simulated GPIO chip does not come up'
}

second() {
  mkdir -p /dev/pts /dev/shm
  mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
  mount -t tmpfs -o mode=1777 shm /dev/shm
  ln -sf /proc/self/fd /dev/fd
  ln -sf /proc/self/fd/0 /dev/stdin
  ln -sf /proc/self/fd/1 /dev/stdout
  ln -sf /proc/self/fd/2 /dev/stderr
  mount -t cgroup2 cgroup /sys/fs/cgroup
  mount -t debugfs debugfs /sys/kernel/debug
  mount -t tracefs tracefs /sys/kernel/tracing
  mount -t configfs configfs /sys/kernel/config
  echo '+cpu +memory +pids' >/sys/fs/cgroup/cgroup.subtree_control
  # a working folder in /tmp stays visible below the new /tmp
  mkdir -p $R/tree
  mount -o bind / $R/tree
  mount -t tmpfs -o mode=1777 tmp /tmp
  while IFS= read -r path; do
    mkdir -p "$path" && mount -o bind "$R/tree$path" "$path"
  done <$R/kept
  while read -r tag path; do
    mkdir -p "$path" && host rw "$tag" "$path" "$path" || fail "$path cannot be mounted"
  done <$R/shares
  hostname rig
  ifconfig lo up
  # QEMU's own network; without --forward there is no such device
  [ ! -e /sys/class/net/eth0 ] || ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
  chip
  # user-mode Linux has no network beyond itself: a connection of the host comes over a serial line
  [ ! -s $R/forward ] || sh $R/forward </dev/null >/dev/null 2>&1 &
  mkfifo $R/stdout $R/stderr
  # First in both directions, which waits for nobody: an open that waits is interrupted when a child ends, and fails.
  exec 7<>$R/stdout 8<>$R/stderr
  cat <$R/stdout >"$STDOUT" 7>&- 8>&- &
  out=$!
  cat <$R/stderr >"$STDERR" 7>&- 8>&- &
  err=$!
  # The rig of the host asks what a silent guest does (evidence.mjs); QEMU is asked from beyond the guest.
  if [ "$RIG_MACHINE" = uml ]; then
    while read -r key; do echo "$key" >/proc/sysrq-trigger; done <"$STATUS" 7>&- 8>&- &
  fi
  echo started >"$STATUS"
  setsid sh $R/command </dev/null >$R/stdout 2>$R/stderr 7>&- 8>&-
  code=$?
  exec 7>&- 8>&-
  # what still runs and holds the pipes does not hold the rig
  (sleep 1; kill $out $err) 2>/dev/null &
  wait $out $err
  echo "exit $code" >"$STATUS"
  end
}

if [ "$1" = second ]; then
  ports
  second
else
  first
fi
