#!/bin/sh
# The m2 command line from a checkout: brings Node.js, the npm packages and the build up to date where they are not, then runs it.
# What it says about that goes to standard error; standard output is the command's own.
set -eu

say() { echo "m2: $*" >&2; }
die() {
  say "$*"
  exit 1
}

[ "$(uname -s)" = Linux ] || die "M2 runs on Linux (Debian 12 or a relative of it); this is $(uname -s)."

root=$(dirname -- "$(readlink -f -- "$0")")
modules=$root/node_modules
pinned=$root/tools/node

# As package.json's "engines" says.
is_new_enough() {
  version=$("$1" --version 2>/dev/null) || return 1
  version=${version#v}
  major=${version%%.*}
  minor=${version#*.}
  minor=${minor%%.*}
  [ "$major" -gt 22 ] || { [ "$major" -eq 22 ] && [ "$minor" -ge 15 ]; }
}

checksum() { cksum <"$1"; }

# A folder of npm packages is up to date when the checksum beside it is that of its lock file.
is_installed() { [ -f "$1/node_modules/.m2-stamp" ] && [ "$(cat "$1/node_modules/.m2-stamp")" = "$(checksum "$1/package-lock.json")" ]; }

# npm leaves out native packages that do not suit the Node.js it runs on, so it runs on the one that M2 will run on, once that is there.
install_packages() {
  command -v npm >/dev/null || die "npm is missing: install it (on Debian: apt-get install npm), then run this again."
  PATH="${node:+$(dirname -- "$node"):}$PATH" npm ci --prefix "$1" --no-audit --no-fund --loglevel=error >&2 || die "npm could not install the packages of $1; see above."
  checksum "$1/package-lock.json" >"$1/node_modules/.m2-stamp"
}

# Only one at a time installs and builds; whoever waited finds it done.
lock() { exec 9<"$root/package.json" && flock 9; }
unlock() { exec 9<&-; }

case $(uname -m) in
  x86_64) architecture=x64 ;;
  aarch64) architecture=arm64 ;;
  *) architecture= ;;
esac

if is_new_enough node; then
  node=$(command -v node)
else
  node=$pinned/node_modules/node-linux-$architecture/bin/node
  if ! is_installed "$pinned" || [ ! -x "$node" ]; then
    command -v npm >/dev/null || die "Node.js 22.15 or newer is missing, and so is npm to fetch it with: install Node.js and npm (on Debian: apt-get install nodejs npm), then run this again."
    [ -n "$architecture" ] || die "Node.js 22.15 or newer is missing, and is brought for x86_64 and arm64 only: install it, then run this again."
    lock
    if ! is_installed "$pinned" || [ ! -x "$node" ]; then
      say "this machine's Node.js is $(node --version 2>/dev/null || echo absent), M2 needs 22.15 or newer: fetching Node.js into tools/node (about 200 MB)"
      install_packages "$pinned"
      # The package is optional, as there is one for each architecture: npm does not complain when it could not fetch it.
      [ -x "$node" ] || die "npm could not fetch Node.js into tools/node: check that it reaches its registry, or install Node.js 22.15 or newer."
    fi
    unlock
  fi
fi

if ! is_installed "$root"; then
  lock
  if ! is_installed "$root"; then
    say "installing the npm packages"
    install_packages "$root"
  fi
  unlock
fi

built=$modules/.m2-built
# Anything newer than the last build: a file that was changed, or a folder that one was added to or removed from.
is_built() {
  [ -f "$built" ] && [ -f "$root/apps/cli/dist/main.js" ] &&
    [ -z "$(cd "$root" && find libs/*/src services/*/src apps/*/src lab/src e2e/src faults/src bench/src tsconfig*.json libs/*/*.json services/*/*.json apps/*/*.json lab/*.json -newer "$built" -print -quit 2>/dev/null)" ]
}

if ! is_built; then
  lock
  if ! is_built; then
    say "building"
    # What is changed while it builds is newer than this, and is built the next time.
    touch "$built.new"
    (cd "$root" && PATH="$(dirname -- "$node"):$PATH" NX_DAEMON=false "$node" node_modules/nx/dist/bin/nx.js run-many -t build --outputStyle=static) >"$built.log" 2>&1 || {
      cat "$built.log" >&2
      die "the build failed; see above."
    }
    mv "$built.new" "$built"
  fi
  unlock
fi

exec "$node" "$root/apps/cli/dist/main.js" "$@"
