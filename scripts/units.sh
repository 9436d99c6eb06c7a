#!/usr/bin/env bash
# The systemd units of a node and a relay under a systemd of their own: booted in namespaces over a copy-on-write view of
# this machine's file system, so nothing of this machine changes. Needs root, systemd and overlayfs; takes a minute.
#
#   scripts/units.sh              debug build, PEERUP_BIN names another program
set -euo pipefail
PATH="$HOME/.cargo/bin:$PATH:/usr/sbin:/sbin"

boot() { # in the namespaces: DIR holds the program, and takes the file system
  local dir=$1 root=$1/box/root device
  mkdir "$dir/box"
  mount -t tmpfs -o size=1g tmpfs "$dir/box"
  mkdir "$dir/box/upper" "$dir/box/work" "$root"
  mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/box/upper,workdir=$dir/box/work" "$root"
  mount -t proc proc "$root/proc"
  mount -t sysfs -o ro sysfs "$root/sys"
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
  mount -t tmpfs tmpfs "$root/run"
  mount -t tmpfs tmpfs "$root/tmp"
  mount -t tmpfs -o mode=755 tmpfs "$root/dev"
  mkdir "$root/dev/"{shm,net,pts,mqueue,hugepages}
  mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
  for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
  done
  mknod -m 666 "$root/dev/net/tun" c 10 200
  ln -s /proc/self/fd "$root/dev/fd"
  ln -s pts/ptmx "$root/dev/ptmx"
  install -m 755 "$dir/peerup" "$root/usr/local/bin/peerup"
  # Units of earlier installations are none of this run's.
  rm -f "$root"/etc/systemd/system/peerup*.service "$root"/etc/systemd/system/*.wants/peerup*
  mkdir "$root/old"
  cd "$root"
  pivot_root . old
  umount -l /old
  ip link set lo up
  container=lxc exec /lib/systemd/systemd --system --unit=multi-user.target
}

check() { # inside: installs both units and looks at what systemd makes of them
  local home=/var/lib/peerup-test relay=/var/lib/peerup-relay config id relay_id
  config=$home/.config/peerup/config.yaml
  ip link add lan0 type veth peer name lan1
  ip addr add 192.0.2.5/24 dev lan0
  ip link set lan0 up
  ip link set lan1 up
  useradd --create-home --home-dir "$home" peerup-test
  useradd --system --create-home --home-dir "$relay" peerup
  cd /tmp
  as() { local user=$1; shift; runuser -u "$user" -- env HOME="$(getent passwd "$user" | cut -d: -f6)" "$@"; }
  as peerup peerup relay setup --non-interactive --dir "$relay" > /dev/null
  peerup service-unit install --relay --config "$relay/relay-server.yaml"
  relay_id=$(peerup relay info --config "$relay/relay-server.yaml" | sed -n 's/^Peer ID: //p')
  as peerup-test peerup init --non-interactive --name box --relay 192.0.2.5:7777 --relay-id "$relay_id" > /dev/null
  id=$(as peerup-test peerup whoami)
  as peerup peerup relay authorize "$id" --config "$relay/relay-server.yaml"
  peerup service-unit install --config "$config"

  say "the node is ready with its address, as $(systemctl show peerup -p User --value) with CAP_NET_ADMIN alone"
  has_address
  grep -q '^CapEff:.0000000000001000$' "/proc/$(pid)/status"
  eventually "the relay holds a reservation" reserved

  say "killed, it comes back with its address"
  kill -9 "$(pid)"
  eventually "a restart" restarted 1
  eventually "the address" has_address

  say "stopped, it leaves nothing behind; started, it is there"
  systemctl stop peerup
  ! ip link show peerup0 2> /dev/null
  [[ -z $(ip route show table all | grep 10.64 || true) ]]
  systemctl start peerup
  has_address
  systemctl reload peerup

  say "silent for longer than WatchdogSec=, it is restarted"
  mkdir -p /etc/systemd/system/peerup.service.d
  printf '[Service]\nWatchdogSec=4\n' > /etc/systemd/system/peerup.service.d/override.conf
  systemctl daemon-reload
  systemctl restart peerup
  kill -STOP "$(pid)"
  eventually "a restart by the watchdog" restarted 1
  eventually "the address" has_address

  say "a relay that is away is no illness"
  systemctl stop peerup-relay
  sleep 10
  has_address
  restarted 1

  systemd-analyze security --no-pager peerup | tail -n 1
  systemd-analyze security --no-pager peerup-relay | tail -n 1
  peerup service-unit uninstall
  ! systemctl is-active --quiet peerup
  [[ -f $config ]]
}

say() { echo "== $*"; }
pid() { systemctl show peerup -p MainPID --value; }
restarted() { [[ $(systemctl show peerup -p NRestarts --value) == "$1" && $(pid) != 0 ]]; }
has_address() { ip -br address show peerup0 | grep -q '10\.64\.0\.1/32'; }
reserved() { as peerup-test peerup status --json | grep -q '"reserved"'; }
eventually() { # WHAT COMMAND…
  local what=$1
  shift
  for _ in $(seq 120); do
    if "$@" 2> /dev/null; then return; fi
    sleep 0.5
  done
  echo "units: no $what" >&2
  journalctl --no-pager -n 40 -u peerup >&2
  return 1
}

case ${1:-} in
  --boot) boot "$2" ;;
  --check) check ;;
  *)
    cd "$(dirname "${BASH_SOURCE[0]}")/.."
    program=${PEERUP_BIN:-target/debug/peerup}
    [[ -n ${PEERUP_BIN:-} ]] || cargo build --locked -p peerup
    dir=$(mktemp -d)
    # unshare ends with its child, and ignores what asks it politely.
    trap 'kill -KILL "${box:-0}" 2> /dev/null || true; wait; rm -rf "$dir"' EXIT
    cp "$program" "$dir/peerup"
    cp scripts/units.sh "$dir/units.sh"
    unshare --mount --pid --fork --kill-child --uts --ipc --net --cgroup --propagation private \
      "$dir/units.sh" --boot "$dir" > "$dir/boot.log" 2>&1 &
    box=$!
    for _ in $(seq 60); do
      systemd=$(pgrep -P "$box" || true)
      inside=(nsenter -t "${systemd:-0}" -m -p -u -i -n -C --root="/proc/${systemd:-0}/root" --wd="/proc/${systemd:-0}/root")
      state=$("${inside[@]}" systemctl is-system-running 2> /dev/null || true)
      [[ $state == running || $state == degraded ]] && break
      sleep 0.5
    done
    [[ $state == running || $state == degraded ]] || { cat "$dir/boot.log" >&2; exit 1; }
    "${inside[@]}" bash -s -- --check < "$dir/units.sh"
    echo "units: all of it holds"
    ;;
esac
