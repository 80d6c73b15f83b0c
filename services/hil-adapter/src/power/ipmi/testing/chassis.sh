#!/bin/sh
# The chassis of a simulated BMC: ipmi_sim calls it with `DIR get power|boot ...` or `DIR set power|boot|reset VALUE ...`.
# State is in files of DIR: power (0|1), boot, journal (one line per power reading and per command), and how it misbehaves:
#   mode    obeys | ignores (says ok, does nothing) | refuses (fails each `set`) | bounces (after off: off, on, then off)
dir=$1
verb=$2
shift 2
mode=$(cat "$dir/mode")

reading() {
  if [ "$mode" = bounces ] && [ -s "$dir/bounce" ]; then
    cut -c1 "$dir/bounce"
    cut -c2- "$dir/bounce" | tr -d '\n' >"$dir/bounce.rest"
    mv "$dir/bounce.rest" "$dir/bounce"
  else
    cat "$dir/power"
  fi
}

case $verb in
  get)
    for what in "$@"; do
      case $what in
        power)
          value=$(reading)
          echo "read $value" >>"$dir/journal"
          echo "power:$value"
          ;;
        boot) echo "boot:$(cat "$dir/boot")" ;;
      esac
    done
    ;;
  set)
    [ "$mode" = refuses ] && exit 1
    while [ $# -ge 2 ]; do
      echo "$1 $2" >>"$dir/journal"
      if [ "$mode" != ignores ]; then
        case $1 in
          power)
            echo "$2" >"$dir/power"
            if [ "$2" = 0 ]; then printf 01 >"$dir/bounce"; fi
            ;;
          boot) echo "$2" >"$dir/boot" ;;
        esac
      fi
      shift 2
    done
    ;;
esac
