# Helpers of .ci/run: time limit, tools, servers. Sourced, not run.
# shellcheck shell=bash

scratch=$(mktemp -d)
servers=()
policy=/usr/sbin/policy-rc.d
policy_is_ours=0
root=()
if ((EUID != 0)); then
    root=(sudo)
fi

# Ends the servers that were started here, by pid, and nothing else.
clean_up() {
    local status=$?
    local pid
    for pid in "${servers[@]}"; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    remove_policy
    rm -rf "$scratch"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

header() {
    printf '\n==== [%4d s] %s\n' "$SECONDS" "$*"
}

die() {
    printf 'failed: %s\n' "$*" >&2
    exit 1
}

# Runs a command for what is left of the time limit.
run() {
    local left=$((TIME_LIMIT_S - SECONDS))
    ((left > 0)) || die "the time limit of $TIME_LIMIT_S s is over"
    timeout --foreground --kill-after=10 "$left" "$@"
}

# Installs the Debian packages whose commands are missing; arguments: command=package.
need() {
    local pair missing=()
    for pair in "$@"; do
        # Servers are kept out of the PATH of users.
        PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    install_packages "${missing[@]}"
}

# The same for modules of Debian's Python; arguments: module=package.
need_python() {
    local pair missing=()
    for pair in "$@"; do
        /usr/bin/python3 -c "import ${pair%%=*}" 2>/dev/null || missing+=("${pair#*=}")
    done
    install_packages "${missing[@]}"
}

# Installs Debian packages without starting the services that some of them bring: those are ours to
# start, on ports of our own. A policy that exits with 101 forbids it (invoke-rc.d(8)).
install_packages() {
    (($# > 0)) || return 0
    command -v apt-get >/dev/null || die "missing, and no apt-get to install them: $*"
    run "${root[@]}" apt-get update -qq
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$scratch/policy"
        "${root[@]}" cp "$scratch/policy" "$policy"
        "${root[@]}" chmod 755 "$policy"
        policy_is_ours=1
    fi
    run "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@"
    remove_policy
}

remove_policy() {
    ((policy_is_ours == 0)) || "${root[@]}" rm -f "$policy"
    policy_is_ours=0
}

# The path of the release binary.
ringpool() {
    printf '%s/release/ringpool' "${CARGO_TARGET_DIR:-target}"
}

# Whether strace is there and allowed (containers often forbid it).
can_trace() {
    strace -o /dev/null true 2>/dev/null
}

is_listening() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# Starts a server on a free port of 127.0.0.1 and sets `port`. The argument is a function that is
# given the port and becomes the server.
start_server() {
    local server=$1 attempt waited pid
    for attempt in 1 2 3 4 5; do
        port=$((20000 + RANDOM % 10000))
        if is_listening "$port"; then
            continue
        fi
        "$server" "$port" >"$scratch/$server.log" 2>&1 &
        pid=$!
        servers+=("$pid")
        for ((waited = 0; waited < 50; waited++)); do
            if is_listening "$port"; then
                printf '%s listens on port %d (attempt %d)\n' "$server" "$port" "$attempt"
                return 0
            fi
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
    done
    cat "$scratch/$server.log" >&2
    die "$server did not start"
}

# Sends a text with escapes to a port of 127.0.0.1 and prints what comes until the end.
ask() {
    local connection
    exec {connection}<>"/dev/tcp/127.0.0.1/$1"
    printf '%b' "$2" >&"$connection"
    timeout 10 cat <&"$connection"
    exec {connection}>&-
}

redis() {
    exec redis-server --port "$1" --bind 127.0.0.1 --save '' --appendonly no --dir "$scratch"
}

web() {
    cat >"$scratch/nginx.conf" <<CONF
daemon off;
master_process off;
pid $scratch/nginx.pid;
error_log stderr;
events { worker_connections 1024; }
http {
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path $scratch/body;
    proxy_temp_path $scratch/proxy;
    fastcgi_temp_path $scratch/fastcgi;
    uwsgi_temp_path $scratch/uwsgi;
    scgi_temp_path $scratch/scgi;
    server {
        listen 127.0.0.1:$1;
        location / { return 200 "pong\n"; }
        location = /status { stub_status; }
    }
}
CONF
    exec nginx -c "$scratch/nginx.conf" -p "$scratch" -e stderr
}
