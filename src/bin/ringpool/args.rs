//! What the user may ask for. Every value is checked here, so that an error names its argument and
//! the exit status is 2 before anything has started.

pub(crate) mod asked;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};
use ringpool::Endpoint;

use self::asked::{Asked, RecordType};
use crate::escape;
use crate::stress::preset::Preset;

/// ringpool: a connection pool per core over io_uring.
#[derive(Debug, Parser)]
#[command(name = "ringpool", version, after_help = STATUS)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Stress the pool against embedded echo servers and an embedded DNS server
    ///
    /// Runs the pool's main job with everything embedded: echo servers on addresses of 127.0.0.0/8
    /// and a DNS server that answers for their names. A client gets a connection, writes a message,
    /// reads its echo, compares every byte and releases the connection, for each of its messages.
    #[command(after_help = STATUS)]
    Stress(StressArgs),
    /// Load a server of yours with one request, again and again
    ///
    /// Sends TEXT and reads until TEXT, again and again, on a number of connections; then prints
    /// throughput, latency and connections per address. It stops by itself.
    ///
    /// Both texts take C escapes: \r \n \t \0 \\ \xHH.
    ///
    /// The text of --until is any text at the very end of the answer, body included: bytes after it
    /// would be unread when the connection goes back, and the pool closes such a connection.
    #[command(after_help = LOAD_EXAMPLES)]
    Load(LoadArgs),
    /// Show what the pool would connect to for a name, and where it knows that from
    ///
    /// Prints the addresses in the order in which they would be tried, for how long they hold, where
    /// they come from (the hosts file, a name server, ...) and how long it took.
    ///
    /// NAME is a host (`example.com`, `example.com.` without a search list, `127.0.0.1`) or an
    /// endpoint (`example.com:443`, `srv:_redis._tcp.example.com`, `https:example.com`).
    #[command(after_help = RESOLVE_EXAMPLES)]
    Resolve(ResolveArgs),
    /// Run the pool in simulated worlds with faults, one for each seed
    ///
    /// Every world has 2 to 4 cores, servers, name servers, a kernel and a network that misbehave as
    /// its seed says. Invariants are checked after every step. A seed that fails is printed with the
    /// smallest set of faults that it needs.
    #[cfg(feature = "sim")]
    #[command(after_help = STATUS)]
    Simulate(SimulateArgs),
    /// Wear the pool with servers and clients that misbehave, then look for what is not back
    ///
    /// Starts servers on addresses of 127.0.0.0/8 that slice, stall, reset, half-close and cut
    /// connections, send bytes nobody asked for, and are restarted; and clients on every shard that
    /// drop futures, connections and tasks at any point. Every answer that comes is checked.
    /// Afterwards descriptors, connections, permits, buffers and memory must be what they were after
    /// a warm-up; a value that is not is named.
    #[command(after_help = STATUS)]
    Soak(SoakArgs),
}

#[cfg(feature = "sim")]
#[derive(Debug, clap::Args)]
pub(crate) struct SimulateArgs {
    /// How many schedules to run
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) schedules: u64,

    /// The first seed; the others follow it [default: drawn]
    #[arg(long, value_name = "SEED")]
    pub(crate) from: Option<u64>,

    /// Run the schedule of this seed alone
    #[arg(long, value_name = "SEED", conflicts_with_all = ["schedules", "from", "seeds"])]
    pub(crate) seed: Option<u64>,

    /// Run the seeds in this file, one in a line
    #[arg(long, value_name = "FILE", conflicts_with_all = ["schedules", "from"])]
    pub(crate) seeds: Option<PathBuf>,

    /// Print what happens, line by line
    #[arg(long, requires = "seed")]
    pub(crate) trace: bool,

    /// How many threads run schedules [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) jobs: Option<u16>,
}

#[cfg(feature = "sim")]
impl SimulateArgs {
    /// How many threads run schedules.
    pub(crate) fn jobs(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.jobs.map_or_else(cores, usize::from)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct SoakArgs {
    /// For how many seconds, the warm-up not counted
    #[arg(long, value_name = "N", default_value_t = 60,
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) seconds: u32,

    /// What actions, faults and contents are drawn from
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,

    /// How many shards, each a thread with its own ring [default: one for each core]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) shards: Option<u16>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StressArgs {
    /// Run this preset; repeat it for several [default: all but extended_stress]
    #[arg(long = "preset", value_name = "NAME")]
    pub(crate) presets: Vec<Preset>,

    /// How many shards, each a thread with its own ring [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) shards: Option<u16>,

    /// What the messages' content and the order of the clients are drawn from
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,

    /// Write the results to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Write the results to this file as one self-contained HTML page
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

impl StressArgs {
    /// The presets to run: those named, in the order named, or all that run by default.
    pub(crate) fn chosen(&self) -> Vec<Preset> {
        if self.presets.is_empty() {
            return Preset::ALL
                .iter()
                .filter(|preset| preset.by_default)
                .copied()
                .collect();
        }
        self.presets.clone()
    }
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LoadArgs {
    /// The server: a name or an address, and a port
    #[arg(value_name = "HOST:PORT", value_parser = endpoint)]
    pub(crate) endpoint: Endpoint,

    /// What to send; C escapes
    #[arg(long, value_name = "TEXT", value_parser = text)]
    pub(crate) send: Bytes,

    /// The text that ends the answer, at most 1 MiB after its beginning; C escapes
    #[arg(long, value_name = "TEXT", value_parser = text)]
    pub(crate) until: Bytes,

    /// How many connections at once
    #[arg(long, value_name = "N", default_value_t = 16,
          value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) connections: u16,

    /// For how many seconds
    #[arg(long, value_name = "S", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) seconds: u32,

    /// How many shards, each a thread with its own ring [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) shards: Option<u16>,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ResolveArgs {
    /// The host or endpoint
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// Only its IPv4 (A) or IPv6 (AAAA) addresses, or where its SRV or HTTPS records lead
    #[arg(long = "type", value_name = "TYPE", ignore_case = true)]
    pub(crate) kind: Option<RecordType>,

    /// Ask this name server, and look into no file; repeat it for several [default: the system's]
    #[arg(long = "server", value_name = "ADDR", value_parser = asked::server)]
    pub(crate) servers: Vec<SocketAddr>,

    /// Print JSON, of a failure too
    #[arg(long)]
    pub(crate) json: bool,
}

impl ResolveArgs {
    /// What NAME and --type mean together. Ends the process with status 2 if that is nothing.
    pub(crate) fn asked(&self) -> Asked {
        asked::read(&self.name, self.kind).unwrap_or_else(|reason| {
            let message = format!("invalid value {:?} for 'NAME': {reason}", self.name);
            let mut command = Args::command();
            let error = command.error(clap::error::ErrorKind::ValueValidation, message);
            error.exit()
        })
    }
}

const STATUS: &str = "Exit status: 0 if all went well, 1 if anything failed, 2 for bad arguments.";

const LOAD_EXAMPLES: &str = "\
Examples:
  ringpool load localhost:6379 --send 'PING\\r\\n' --until '+PONG\\r\\n'
  ringpool load localhost:80 --send 'GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n' --until '</html>\\n'

Exit status: 0 if every answer came, 1 if anything failed, 2 for bad arguments.";

const RESOLVE_EXAMPLES: &str = "\
Examples:
  ringpool resolve example.com
  ringpool resolve example.com --type AAAA --server 9.9.9.9 --json
  ringpool resolve _redis._tcp.example.com --type SRV --server '[::1]:5300'

Exit status: 0 if there is an address, 1 if anything failed, 2 for bad arguments.";

/// Bytes given as text with escapes. (A type of its own: clap reads `Vec<u8>` as a list.)
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

fn text(text: &str) -> Result<Bytes, String> {
    let bytes = escape::unescape(text).map_err(|error| error.to_string())?;
    match bytes.is_empty() {
        true => Err("the text is empty".into()),
        false => Ok(Bytes(bytes)),
    }
}

fn endpoint(text: &str) -> Result<Endpoint, String> {
    Endpoint::try_from(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::error::ErrorKind;

    fn parse(args: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from([&["ringpool"], args].concat())
    }

    fn usage_error(args: &[&str]) -> String {
        let error = parse(args).expect_err("these arguments are bad");
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    }

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn presets_are_those_named_or_all_but_the_extended_one() {
        let Command::Stress(args) = parse(&["stress"]).unwrap().command else {
            panic!("stress")
        };
        let names: Vec<_> = args.chosen().iter().map(|preset| preset.name).collect();
        assert_eq!(names.len(), 12);
        assert!(!names.contains(&"extended_stress"));

        let named = [
            "stress",
            "--preset",
            "four_addresses",
            "--preset",
            "extended_stress",
        ];
        let Command::Stress(args) = parse(&named).unwrap().command else {
            panic!("stress")
        };
        let names: Vec<_> = args.chosen().iter().map(|preset| preset.name).collect();
        assert_eq!(names, ["four_addresses", "extended_stress"]);
    }

    #[test]
    fn errors_name_the_argument() {
        assert!(usage_error(&["stress", "--preset", "fast"]).contains("--preset"));
        assert!(usage_error(&["stress", "--shards", "0"]).contains("--shards"));
        assert!(usage_error(&["soak", "--seconds", "0"]).contains("--seconds"));
        assert!(usage_error(&["stress", "--seed", "-1"]).contains("-1"));
        let bad = ["load", "localhost:1", "--send", r"a\q", "--until", "x"];
        let text = usage_error(&bad);
        assert!(text.contains("--send") && text.contains("byte 2"), "{text}");
        let bad = ["load", "localhost:1", "--send", "a", "--until", ""];
        assert!(usage_error(&bad).contains("--until"));
        let bad = ["load", "localhost:0", "--send", "a", "--until", "b"];
        assert!(usage_error(&bad).contains("HOST:PORT"));
        let bad = [
            "load",
            "localhost:1",
            "--send",
            "a",
            "--until",
            "b",
            "--connections",
            "0",
        ];
        assert!(usage_error(&bad).contains("--connections"));
    }

    #[test]
    fn help_is_not_an_error() {
        assert_eq!(
            parse(&["--help"]).unwrap_err().kind(),
            ErrorKind::DisplayHelp
        );
        assert_eq!(parse(&["load", "--help"]).unwrap_err().exit_code(), 0);
    }
}
