#!/bin/sh
# udhcpc calls this with its lease in the environment: takes the address, and writes the lease down for the test.
[ "$1" = bound ] || exit 0
ip address flush dev "$interface" scope global
ip address add "$ip/$mask" dev "$interface"
env >"$M2_LEASE"
