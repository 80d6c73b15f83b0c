#!/bin/sh
# The power of one lab node, as ipmi_sim's `chassis_control` asks for it (OpenIPMI, lanserv/extcmd.c):
#   power.sh NODE_DIR get power|boot          prints "power:1" or "boot:pxe"
#   power.sh NODE_DIR set power|reset|shutdown|boot|identify VALUE
# All state is in NODE_DIR, so power works also when the process that made the lab is gone. It is sh, and `get power`
# forks nothing, because it runs once per power query:
#   command   the line `set -- 'qemu…' 'arg' …`; without this file the node has no machine
#   qemu.pid  written by QEMU
#   mon.in    a FIFO that QEMU's monitor reads
#   mode      the BMC's fault: "ignores" says yes to everything and does nothing; "lies" also pretends that it did
#   power     the power of a node without a machine
#   lie       the power that a liar pretends
#   told      a line for everything that the BMC was told to do
node=$1
verb=$2
what=$3
value=$4

[ "$verb" = set ] && echo "$what $value" >>"$node/told"

# A process id is used again sooner or later: only a process that was given this node's pid file is our QEMU.
# (`read` drops the zero bytes between the arguments; a zombie has no arguments.)
running() {
  [ -f "$node/command" ] || return 1
  { read -r pid <"$node/qemu.pid"; } 2>/dev/null || return 1
  arguments=
  { read -r arguments <"/proc/$pid/cmdline"; } 2>/dev/null
  case $arguments in
    *"-pidfile$node/qemu.pid"*) return 0 ;;
    *) return 1 ;;
  esac
}

power_on() {
  if [ ! -f "$node/command" ]; then
    echo 1 >"$node/power"
    return
  fi
  running && return
  # popen gave us the BMC's sockets; a QEMU that kept them would hold the BMC's port after the BMC's end.
  exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-
  . "$node/command"
  "$@" </dev/null >>"$node/qemu.log" 2>&1
}

power_off() {
  if [ ! -f "$node/command" ]; then
    echo 0 >"$node/power"
    return
  fi
  running || return 0
  kill -9 "$pid" 2>/dev/null
  # A BMC that answers "off" is believed: whoever asked may give the disk away at once.
  tries=500
  while running; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || return 1
    sleep 0.01
  done
}

# Opened for both directions: opening a FIFO only to write blocks when nobody reads.
monitor() {
  running || return 0
  echo "$1" 1<>"$node/mon.in"
}

word() {
  answer=$2
  { read -r answer <"$node/$1"; } 2>/dev/null
}

word mode ok
mode=$answer
case "$verb $what" in
  'get power')
    if [ "$mode" = lies ]; then
      word lie 0
    elif [ -f "$node/command" ]; then
      if running; then answer=1; else answer=0; fi
    else
      word power 0
    fi
    echo "power:$answer"
    exit
    ;;
  'get boot')
    word boot default
    echo "boot:$answer"
    exit
    ;;
esac

case "$mode $what" in
  'lies power') echo "$value" >"$node/lie" && exit 0 ;;
  'lies '* | 'ignores '*) exit 0 ;;
esac
case "$verb $what $value" in
  'set power 1') power_on ;;
  'set power 0') power_off ;;
  'set reset 1') monitor system_reset ;;
  'set shutdown 1') monitor system_powerdown ;;
  'set boot '*) echo "$value" >"$node/boot" ;;
  'set identify '*) ;;
  *) exit 1 ;;
esac
