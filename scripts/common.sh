# What the scripts share. Source it; it sets `root` (the project), `deps` (what was fetched) and `meed` (the program; MEED names another).
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
deps=${MEED_DEPS_DIR:-$root/.deps}
started=$SECONDS
meed=${MEED:-build/release/bin/meed}  # seen from $root

# Sets `seeds` to the ones given, or to three.
take_seeds() {
  seeds=("$@")
  [ $# -gt 0 ] || seeds=(0 1 2)
}

say() { printf '[%4d s] %s\n' $((SECONDS - started)) "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Builds the preset `release` with the targets given.
build() {
  say "configuring"
  (cd "$root" && cmake --preset release -DMEED_DEPS_DIR="$deps" >/dev/null) || die "cmake failed; see above"
  say "building: ${*:-everything}"
  local log=$root/build/release/build.log
  cmake --build "$root/build/release" --parallel "$(nproc)" ${1:+--target "$@"} >"$log" 2>&1 || {
    grep -E -A 12 'FAILED|error:|ninja: error' "$log" | head -60 >&2
    die "the build failed; all of its output is in $log"
  }
  say "built"
}
