# What the scripts share. Source it; it sets `root` (the project) and `deps` (what was fetched).
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
deps=${MEED_DEPS_DIR:-$root/.deps}
started=$SECONDS

say() { printf '[%4d s] %s\n' $((SECONDS - started)) "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Builds the preset `release` with the targets given.
build() {
  say "configuring"
  (cd "$root" && cmake --preset release -DMEED_DEPS_DIR="$deps" >/dev/null) || die "cmake failed; see above"
  say "building: ${*:-everything}"
  cmake --build "$root/build/release" --parallel "$(nproc)" ${1:+--target "$@"} | grep -E 'FAILED|error|warning:|ninja: (error|no work)' >&2
  [ "${PIPESTATUS[0]}" -eq 0 ] || die "the build failed"
  say "built"
}
