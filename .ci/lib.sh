# Shared by .ci/run, .ci/long and .ci/platforms: named steps with a time limit, and the list of what .ci/long runs in
# addition to .ci/run.

# rustup's programs are here, which is not on every shell's PATH.
export PATH="${CARGO_HOME:-${HOME:-/root}/.cargo}/bin:$PATH"
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
export PYTHONDONTWRITEBYTECODE=1
# Most is compiled once: half of the time for that went into what helps a second build, and a debugger. Backtraces still
# have lines.
export CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=line-tables-only

scratch=$(mktemp -d)
declare -A running=() # The processes of the current steps, by their ids.
name=start
at_end=: # A command that stops anything that would outlive the script.

finish() {
  local code=$?
  local each
  for each in "${!running[@]}"; do
    if kill "$each" 2>/dev/null; then wait "$each" || true; fi
  done
  $at_end || true
  rm -rf "$scratch"
  if [ "$code" -eq 0 ]; then
    printf '\n== all passed, %d s in total\n' "$SECONDS"
  else
    printf '\n== FAILED at: %s (%d s in total)\n' "$name" "$SECONDS"
  fi
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

announce() {
  name=$1
  printf '\n== %s (at %d s)\n' "$name" "$SECONDS"
}

# limited SECONDS COMMAND...: runs a command in its own process group, which `timeout` kills as a whole at the limit, or
# when this script is killed and forwards the signal.
limited() {
  timeout --kill-after=10 "$@" &
  local process=$! code=0
  running[$process]=$1
  wait "$process" || code=$?
  unset "running[$process]"
  return "$code"
}

step() {
  announce "$1"
  limited "${@:2}"
}

# two_at_once SECONDS NAME=COMMAND...: runs steps, two at a time, since they mostly wait or use one core only.  Prints the
# output of each when it has ended, and stops at the first failure.
two_at_once() {
  local limit_s=$1 each
  for each in "${@:2}"; do
    if [ "${#running[@]}" -ge 2 ]; then one_has_ended; fi
    # shellcheck disable=SC2086 # The command is split into words.
    timeout --kill-after=10 "$limit_s" ${each#*=} >"$scratch/${each%%=*}.log" 2>&1 &
    running[$!]="$SECONDS ${each%%=*}"
  done
  while [ "${#running[@]}" -gt 0 ]; do one_has_ended; done
}

one_has_ended() {
  local process code=0 what begin
  wait -n -p process "${!running[@]}" || code=$?
  read -r begin what <<<"${running[$process]}"
  unset "running[$process]"
  announce "$what, which took $((SECONDS - begin)) s"
  name=$what
  cat "$scratch/$what.log"
  [ "$code" -eq 0 ] || die "it ended with $code"
}

die() {
  printf '%s\n' "$*" >&2
  exit 1
}

installed() {
  local package=${1%%=*} version=
  [ "$package" = "$1" ] || version=${1#*=}
  # shellcheck disable=SC2254 # The version is a pattern.
  case "$(dpkg-query --show --showformat '${db:Status-Status} ${Version}' "$package" 2>/dev/null)" in
    "installed "${version:-*}) return 0 ;;
  esac
  return 1
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

install_packages() {
  local package missing=()
  for package in "$@"; do
    installed "$package" || missing+=("$package")
  done
  if [ "${#missing[@]}" -eq 0 ]; then
    echo "all there: $*"
    return
  fi
  export DEBIAN_FRONTEND=noninteractive
  as_root apt-get update --quiet --quiet
  # Debian may have a newer Rust installed, but the oldest supported one is wanted: hence --allow-downgrades.
  as_root apt-get install --yes --quiet --quiet --no-install-recommends --allow-downgrades "${missing[@]}"
}

# The steps that .ci/run leaves out because they take too long, as `description|limit in seconds|command`.
LONG=(
  "every seeded bug is found|14400|python3 tests/seeded_bugs.py"
  "95 % of 400 small changes of the core are noticed|14400|.ci/with_tool cargo-mutants 27.1.0 python3 tests/mutants.py"
  "a million seeds of the properties|7200|env SWITCHBOARD_SEEDS=1000000 cargo test --release --lib --all-features every_guarantee"
  "every system call of sessions fails once|7200|python3 tests/real/sweep.py --long"
  "a million pairs of failing system calls|7200|env SWITCHBOARD_SEEDS=1000000 cargo test --release --lib --all-features any_two_system_calls"
  "examples of the docs, each with 200,000 seeds|1800|env SWITCHBOARD_SEEDS=200000 cargo test --release --doc --all-features"
  "1,000 hostile clients beside honest ones|330|python3 tests/real/crowd.py --long"
  "an hour of mixed clients, every byte compared|4500|python3 tests/real/soak.py --minutes 60"
  "fuzz: a hundred million inputs for each parser, an hour of programs for the loop|10800|fuzz/long"
  "every planted bug is found by its target|3600|python3 fuzz/planted.py"
  "every seeded cost is found|3600|python3 tests/seeded_costs.py"
  "benches in full|3600|cargo bench --features workers"
  "clippy of all peers|1800|cargo clippy --manifest-path benches/compare/Cargo.toml --locked --all-targets --features uring,http,tls --release -- -D warnings"
  "every peer of the comparison does what it should|3600|python3 benches/compare/check.py"
  "the comparison with peers in full|14400|python3 benches/compare/compare.py"
  "what a request costs, beside others|3600|python3 benches/compare/requests.py"
  "what a message costs peers by how many are ready|3600|python3 benches/compare/ready.py"
  "the comparison over TLS in full|3600|python3 benches/compare/tls.py"
  "what a message over TLS costs|600|python3 benches/measure.py tls --check"
  "relays in full|3600|python3 benches/compare/relay.py"
  "how cost grows, in full|3600|python3 benches/compare/curves.py"
  "where the time of the examples goes|600|python3 benches/shares.py"
  "load of others, in full|3600|python3 benches/load_of_others.py"
  "which answers servers lose|3600|python3 benches/compare/lost.py"
  "TLS: thousands that never finish, testssl.sh, a browser|900|python3 tests/real/tls.py --long"
  "TLS: 64 MB both ways at once|300|cargo test --package switchboard-tls --test it -- --ignored"
  "other systems: compiled, and run under Wine and qemu|3600|.ci/platforms"
  "every variant is measured|14400|python3 benches/variants.py"
  "tests in each restricted setting|3600|python3 tests/real/restricted.py --long"
  "every set of features compiles without a warning|1800|.ci/with_tool cargo-hack 0.6.46 env RUSTFLAGS=-Dwarnings cargo hack check --feature-powerset --no-dev-deps --package switchboard --target-dir target/features"
  "licences, duplicates and sources of all crates|1800|.ci/with_tool cargo-deny 0.20.2 cargo deny --workspace check licenses bans sources"
)

# left_out: prints the steps in LONG.
left_out() {
  local each
  for each in "${LONG[@]}"; do
    printf -- '- %s: %s\n' "${each%%|*}" "${each##*|}"
  done
}
