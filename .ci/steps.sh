# The steps of .ci/run, in its order. Sourced, not run. docs/testing.md says what each is for.
# shellcheck shell=bash

step_tools() {
    need redis-server=redis-server nginx=nginx strace=strace jq=jq cc=gcc
    need_python dns=python3-dnspython
    command -v cargo >/dev/null || die "cargo is missing: install Rust first"
    cargo fmt --version >/dev/null 2>&1 || run rustup component add rustfmt
    cargo clippy --version >/dev/null 2>&1 || run rustup component add clippy
    cargo --version
    uname -sr
}

step_fmt() {
    run cargo fmt --all --check
}

# The tests that run when they are named alone are no part of all targets.
step_lints() {
    run cargo clippy --all-targets --all-features -- -D warnings
    run cargo clippy --test real_dns --all-features -- -D warnings
}

step_docs() {
    RUSTDOCFLAGS='-D warnings' run cargo doc --no-deps --all-features
}

step_tests_features() {
    run cargo test --features cli,sim
}

# Positions in streams, over more changes of cores than a test run has.
step_handover() {
    RINGPOOL_HANDOVERS=100000 run cargo test --features cli,sim --test handover \
        a_stream_goes_on -- --nocapture >"$scratch/handover" || die "$(<"$scratch/handover")"
    grep 'connections changed cores' "$scratch/handover"
}

# What ringpool makes of unbound, named and dnsmasq, and what dig makes of them.
step_real_dns() {
    need unbound=unbound named=bind9 dig=bind9-dnsutils dnsmasq=dnsmasq-base setpriv=util-linux
    run cargo test --features cli,sim --test real_dns
}

# Ours beside its peers, briefly. What is counted must be no worse than the file of record; times are
# printed and decide nothing, since they are not a machine's that does other things as well.
step_peers() {
    local options=(--manifest-path benches/peers/Cargo.toml --target-dir "${CARGO_TARGET_DIR:-target}/peers")
    run cargo fmt --manifest-path benches/peers/Cargo.toml --check
    run cargo test --release --locked "${options[@]}"
    run cargo run --release --locked "${options[@]}" -- --short \
        --json "$scratch/peers.json" --check benches/peers/record.json
    jq -e 'map(.workload) | unique | length == 8' "$scratch/peers.json" >/dev/null ||
        die 'not every workload of the comparison wrote rows'
}

# A folder of its own: other flags would rebuild everything twice.
step_loom() {
    RUSTFLAGS='--cfg ringpool_loom' run cargo test --lib share --release \
        --target-dir "${CARGO_TARGET_DIR:-target}/loom"
}

# What was learned stays in fuzz/corpus and is played again first.
# It begins with one seed each time: what fails here is the change. docs/testing.md has the runs that explore.
step_fuzz() {
    local -a options=(-seed=1 -verbosity=0 -print_final_stats=1)
    run fuzz/run policy -max_total_time=90 "${options[@]}"
    run fuzz/run dns_answer -max_total_time=60 "${options[@]}"
    run fuzz/run resolv_conf -max_total_time=30 -max_len=4096 "${options[@]}"
}

# Leaks are looked for where that can work; docs/testing.md says where it cannot.
step_asan() {
    local leaks=0 forgets=a_runtime_that_ends_in_the_middle_closes_everything
    if can_trace; then
        leaks=1
    else
        printf 'leaks are not looked for: tracing is not allowed here\n'
    fi
    with_asan 0 --lib ring::
    with_asan 0 --test sim
    with_asan "$leaks" --test cancel --test boundaries -- --skip "$forgets"
    with_asan 0 --test cancel "$forgets"
}

# cargo test under AddressSanitizer, whose flag the stable compiler takes only if told to.
# Naming the host as the target keeps it from build scripts.
with_asan() {
    local leaks=$1 host
    shift
    host=$(rustc -vV | sed -n 's/^host: //p')
    ASAN_OPTIONS="detect_leaks=$leaks" RUSTC_BOOTSTRAP=1 RUSTFLAGS='-Zsanitizer=address' \
        run cargo test --features sim --target "$host" --target-dir "${CARGO_TARGET_DIR:-target}/asan" "$@"
}

step_powerset() {
    run cargo check --no-default-features
    run cargo check --no-default-features --features cli
    run cargo check --no-default-features --features sim
}

step_msrv() {
    local version
    version=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    if ! rustup toolchain list 2>/dev/null | grep -q "^$version"; then
        printf 'skipped: the toolchain %s is not installed\n' "$version"
        return 0
    fi
    run cargo "+$version" check --all-features --target-dir "${CARGO_TARGET_DIR:-target}/msrv"
}

step_release() {
    run cargo build --release --features cli,sim
}

# Seeds that failed once, and fresh ones. A seed that fails is printed with the command that shows it.
step_simulate() {
    run "$(ringpool)" simulate --seeds tests/seeds.txt >"$scratch/past"
    head -1 "$scratch/past"
    run "$(ringpool)" simulate --schedules 2500 >"$scratch/fresh"
    head -1 "$scratch/fresh"
}

# Every bug still fits the code, and three of them are found; tests/mutations/run tries them all.
step_mutations() {
    local patch
    for patch in tests/mutations/*.patch; do
        git apply --check "$patch" || die "$patch does not fit the code any more"
    done
    run tests/mutations/run 01 13 18
}

step_stress() {
    stress_passes
}

# What cores do for each other, on few of them and on more than there are connections.
step_cores() {
    local shards
    for shards in 2 8 16 64; do
        printf '%d shards\n' "$shards"
        stress_passes --shards "$shards" --preset four_addresses --preset dns_changes \
            --preset address_dies --preset outage --preset uneven_cores --preset process_limit
    done
}

# The exit status says it too; what is written for programs must agree.
stress_passes() {
    local results="$scratch/stress.json"
    rm -f "$results"
    run "$(ringpool)" stress --json "$results" "$@" >"$scratch/table" || die "$(<"$scratch/table")"
    jq -e 'length > 0 and all(.[]; .errors == 0 and .messages > 0)' "$results" >/dev/null ||
        die "errors in the results: $(jq -c '.[] | {preset, errors}' "$results")"
    jq -r '.[] | "\(.preset): \(.messages) messages, \(.errors) errors"' "$results"
}

# Faults of every kind, for a while; then nothing may be left of it. The figures are in the output.
step_soak() {
    run "$(ringpool)" soak --seconds 45
}

# The servers' own counts are asked too: a load that sent nothing would not fail by itself.
step_load() {
    local port calls accepts requests
    start_server redis
    run "$(ringpool)" load "127.0.0.1:$port" --seconds 3 --send 'PING\r\n' --until '+PONG\r\n'
    calls=$(ask "$port" 'INFO commandstats\r\nQUIT\r\n' |
        sed -n 's/^cmdstat_ping:calls=\([0-9]*\).*/\1/p')
    ((${calls:-0} > 0)) || die "redis saw no PING"
    printf 'redis answered %d PING\n' "$calls"

    start_server web
    run "$(ringpool)" load "127.0.0.1:$port" --seconds 3 \
        --send 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n' --until 'pong\n'
    read -r accepts _ requests < <(ask "$port" 'GET /status HTTP/1.0\r\n\r\n' |
        sed -n '/^server accepts/{n;p}' | tr -d '\r')
    ((${requests:-0} > 10 * ${accepts:-0})) || die "nginx: $requests requests, $accepts connections"
    printf 'nginx answered %d requests on %d connections\n' "$requests" "$accepts"
}

# The pool's connections live on the ring: no system call opens, reads or writes one.
step_syscalls() {
    local port trace="$scratch/trace"
    if ! can_trace; then
        printf 'skipped: strace may not trace here\n'
        return 0
    fi
    start_server redis
    run strace -f -o "$trace" -e trace=%network,io_uring_enter "$(ringpool)" load \
        "127.0.0.1:$port" --seconds 1 --connections 4 --send 'PING\r\n' --until '+PONG\r\n'
    grep -q 'io_uring_enter(' "$trace" || die "no io_uring_enter in the trace"
    if grep -E ' (connect|accept4?|sendto|sendmsg|recvfrom|recvmsg|shutdown)\(|socket\(AF_INET' \
        "$trace" | grep -v 'AF_UNIX' >"$scratch/found"; then
        head -5 "$scratch/found" >&2
        die "system calls on sockets that belong on the ring"
    fi
    printf '%d io_uring_enter, no other system call on a connection\n' \
        "$(grep -c 'io_uring_enter(' "$trace")"
}

# Four shards start for a user without privileges, under 8 MiB of locked memory; under 64 KiB they
# do not, and the error names the limit.
step_limits() {
    local built binary="$scratch/shards"
    built=$(cargo test --test shards --no-run --message-format=json |
        jq -r 'select(.target.name? == "shards" and .executable != null) | .executable' | tail -1)
    cp "$built" "$binary"
    chmod 755 "$scratch" "$binary"
    unprivileged 8192 "$binary" --exact four_shards_start_under_eight_mebibytes_of_locked_memory \
        >"$scratch/enough"
    grep -q '^test result: ok. 1 passed' "$scratch/enough" || die "$(cat "$scratch/enough")"
    if unprivileged 64 "$binary" --exact \
        four_shards_start_under_eight_mebibytes_of_locked_memory >"$scratch/little" 2>&1; then
        die "four shards started under 64 KiB of locked memory: was the limit in force?"
    fi
    grep -q RLIMIT_MEMLOCK "$scratch/little" || die "$(cat "$scratch/little")"
    printf 'started under 8 MiB of locked memory; refused under 64 KiB, naming RLIMIT_MEMLOCK\n'
}

# Runs a command under a limit of locked memory (KiB), as a user to whom it applies.
unprivileged() {
    local limit=$1
    shift
    if (($(id -u) == 0)); then
        (ulimit -l "$limit" && cd / && export RUST_BACKTRACE=0 && exec timeout 60 setpriv --reuid 65534 --regid 65534 --clear-groups "$@")
    else
        (ulimit -l "$limit" && cd / && export RUST_BACKTRACE=0 && exec timeout 60 "$@")
    fi
}

# Advisories need a database from elsewhere; the other checks need the lock file alone.
step_licences() {
    if ! cargo deny --version >/dev/null 2>&1; then
        run cargo install --locked cargo-deny
    fi
    run cargo deny check licenses bans sources
}
