//! The command line as its users meet it: what it prints, what it writes, how it exits.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Output};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType, rdata};
use serde_json::{Value, json};

fn ringpool(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringpool"))
        .args(args)
        .output()
        .expect("the binary starts")
}

fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A server that answers each connection with `serve`, for as long as the tests run.
fn server(serve: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

fn echo(mut stream: TcpStream) {
    echo_times(&mut stream, usize::MAX);
}

/// Closes the connection after a few answers, as web servers do.
fn echo_thrice(mut stream: TcpStream) {
    echo_times(&mut stream, 3);
}

fn hang_up(mut stream: TcpStream) {
    let _request = stream.read(&mut [0; 64]);
}

fn echo_times(stream: &mut TcpStream, times: usize) {
    let mut bytes = [0; 64];
    for _ in 0..times {
        let Ok(n @ 1..) = stream.read(&mut bytes) else {
            return;
        };
        if stream.write_all(&bytes[..n]).is_err() {
            return;
        }
    }
}

#[test]
fn stress_passes_and_tells_it_in_three_forms() {
    let (json, html) = (scratch("stress.json"), scratch("stress.html"));
    let output = ringpool(&[
        "stress",
        "--preset",
        "high_reuse",
        "--preset",
        "four_addresses",
        "--shards",
        "2",
        "--seed",
        "7",
        "--json",
        json.to_str().unwrap(),
        "--html",
        html.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}{}", out(&output), err(&output));
    for name in ["high_reuse", "four_addresses"] {
        assert!(out(&output).contains(name), "{}", out(&output));
        assert!(
            err(&output).contains(&format!("{name}: ")),
            "{}",
            err(&output)
        );
    }

    let list: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    let [reuse, four] = &list.as_array().unwrap()[..] else {
        panic!("two presets: {list}")
    };
    check_entry(reuse, "high_reuse", 2000, 2);
    check_entry(four, "four_addresses", 20_000, 4);
    let page = std::fs::read_to_string(html).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"));
    assert!(page.contains("seed 7") && !page.contains("http"));
    for chart in ["per address over time", "per core over time"] {
        assert_eq!(page.matches(&format!("<h3>Connections {chart}")).count(), 2);
    }
}

fn check_entry(entry: &Value, preset: &str, messages: u64, addresses: usize) {
    assert_eq!(entry["preset"], preset);
    assert_eq!((&entry["shards"], &entry["errors"]), (&2.into(), &0.into()));
    assert_eq!(entry["messages"], messages);
    assert!(entry["throughput_per_s"].as_f64().unwrap() > 0.0);
    let latency = ["p50", "p90", "p99", "p999", "max"];
    let latency = latency.map(|name| entry["latency_us"][name].as_f64().unwrap());
    assert!(latency[0] > 0.0 && latency.is_sorted(), "{latency:?}");
    let opened = entry["addresses"].as_array().unwrap();
    assert_eq!(opened.len(), addresses);
    let opened: u64 = opened
        .iter()
        .map(|address| address["opened"].as_u64().unwrap())
        .sum();
    let samples = entry["samples"].as_array().unwrap();
    let last = samples.last().unwrap();
    assert!(last["at_s"].as_f64().unwrap() > 0.0);
    assert_eq!(last["addresses"].as_array().unwrap().len(), addresses);
    assert_eq!(last["cores"].as_array().unwrap().len(), 2);
    let created = entry["connections"]["created"].as_u64().unwrap();
    assert!(
        (1..=opened).contains(&created),
        "{created} created, {opened} opened"
    );
    assert!(entry["connections"]["reused"].as_u64().unwrap() > messages / 2);
}

#[test]
fn load_prints_figures_and_connections_per_address() {
    let address = server(echo).to_string();
    let output = ringpool(&[
        "load",
        &address,
        "--send",
        r"PING\r\n",
        "--until",
        r"\x0d\n",
        "--connections",
        "3",
        "--seconds",
        "1",
        "--shards",
        "2",
    ]);
    assert!(output.status.success(), "{}{}", out(&output), err(&output));
    let text = out(&output);
    for part in [
        "requests/s",
        "p50",
        "p99.9",
        &format!("{address}: 3 opened"),
        "errors       0",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn a_server_that_closes_idle_connections_is_no_error() {
    let address = server(echo_thrice).to_string();
    let output = ringpool(&[
        "load",
        &address,
        "--send",
        "a",
        "--until",
        "a",
        "--connections",
        "1",
        "--seconds",
        "1",
    ]);
    assert!(output.status.success(), "{}{}", out(&output), err(&output));
}

#[test]
fn a_server_that_fails_is_an_error_with_its_reason() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap();
    let silent = server(hang_up);
    for (address, reason) in [
        (free, "connection refused"),
        (silent, "trying the first request"),
    ] {
        let name = address.to_string();
        let output = ringpool(&[
            "load",
            &name,
            "--send",
            "a",
            "--until",
            "b",
            "--seconds",
            "60",
        ]);
        assert_eq!(output.status.code(), Some(1));
        let text = err(&output);
        assert!(
            text.contains(reason) && !text.contains("panicked"),
            "{text}"
        );
        assert!(out(&output).is_empty());
    }
}

#[test]
fn a_soak_checks_answers_and_finds_every_value_back() {
    let output = ringpool(&["soak", "--seconds", "2", "--seed", "3", "--shards", "2"]);
    assert!(output.status.success(), "{}{}", out(&output), err(&output));
    let text = out(&output);
    for part in [
        "answers checked",
        "0 wrong",
        "restart",
        "descriptors of the process",
        "memory, KiB",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(!text.contains("NOT BACK"), "{text}");
}

/// A name server that knows two addresses of `a.test`, for as long as the tests run.
fn name_server() -> String {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 2048];
        while let Ok((n, from)) = socket.recv_from(&mut bytes) {
            let query = Message::from_vec(&bytes[..n]).unwrap();
            let question = query.queries[0].clone();
            let mut reply = Message::new(query.id, MessageType::Response, query.metadata.op_code);
            reply.add_query(question.clone());
            match &*question.name().to_ascii().to_lowercase() {
                "a.test." if question.query_type() == RecordType::A => {
                    for last in [1, 2] {
                        let data = RData::A(rdata::A::new(192, 0, 2, last));
                        reply.add_answer(Record::from_rdata(question.name().clone(), 60, data));
                    }
                }
                "a.test." => {}
                _ => reply.metadata.response_code = ResponseCode::NXDomain,
            }
            socket.send_to(&reply.to_vec().unwrap(), from).unwrap();
        }
    });
    address.to_string()
}

#[test]
fn resolve_tells_addresses_their_time_and_their_source() {
    let server = name_server();
    let output = ringpool(&["resolve", "A.test", "--server", &server]);
    assert!(output.status.success(), "{}{}", out(&output), err(&output));
    let text = out(&output);
    let first = format!("A.test: 2 addresses, from {server}, for 60 s, in ");
    assert!(text.starts_with(&first), "{text}");
    assert!(
        text.contains("  192.0.2.1\n") && text.contains("  192.0.2.2\n"),
        "{text}"
    );

    let args = [
        "resolve",
        "a.test:80",
        "--type",
        "a",
        "--server",
        &server,
        "--json",
    ];
    let output = ringpool(&args);
    assert!(output.status.success(), "{}{}", out(&output), err(&output));
    let json: Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(
        (&json["name"], &json["type"]),
        (&json!("a.test:80"), &json!("A"))
    );
    assert_eq!(json["source"], json!({"kind": "server", "server": server}));
    assert_eq!((&json["ttl_s"], &json["error"]), (&json!(60), &Value::Null));
    assert!(json["time_us"].as_f64().unwrap() > 0.0);
    let mut addresses = json["addresses"].as_array().unwrap().clone();
    addresses.sort_by_key(|it| it["ip"].to_string());
    let address = |ip| json!({"ip": ip, "port": 80, "priority": 0, "weight": 1});
    assert_eq!(addresses, [address("192.0.2.1"), address("192.0.2.2")]);
}

#[test]
fn resolve_of_what_needs_no_server_asks_none() {
    let nobody = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let nobody = nobody.local_addr().unwrap().to_string();
    for (name, source, ips) in [
        ("192.0.2.1:80", "literal", json!(["192.0.2.1"])),
        ("::1", "literal", json!(["::1"])),
        ("db.localhost", "special", json!(["127.0.0.1", "::1"])),
    ] {
        let output = ringpool(&["resolve", name, "--json", "--server", &nobody]);
        assert!(output.status.success(), "{}{}", out(&output), err(&output));
        let json: Value = serde_json::from_str(&out(&output)).unwrap();
        assert_eq!(json["source"], json!({"kind": source, "server": null}));
        assert_eq!(json["ttl_s"], Value::Null, "{name}");
        let addresses = json["addresses"].as_array().unwrap().iter();
        let mut found: Vec<_> = addresses.map(|it| it["ip"].clone()).collect();
        found.sort_by_key(ToString::to_string);
        assert_eq!(json!(found), ips, "{name}");
    }
}

#[test]
fn resolve_of_a_name_that_is_not_there_fails_with_the_whole_reason() {
    let server = name_server();
    let output = ringpool(&["resolve", "b.test", "--server", &server]);
    assert_eq!(output.status.code(), Some(1));
    assert!(out(&output).is_empty());
    let text = err(&output);
    let reason = format!("no such name (NXDOMAIN from {server}), resolving b.test");
    assert_eq!(text.trim_end(), format!("ringpool: {reason}"));

    let output = ringpool(&["resolve", "b.test", "--server", &server, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let json: Value = serde_json::from_str(&out(&output)).unwrap();
    let error = json!({"kind": "Resolve", "text": reason, "steps": ["resolving b.test"]});
    assert_eq!((&json["error"], &json["source"]), (&error, &Value::Null));
    assert_eq!(json["addresses"], json!([]));
}

#[test]
fn bad_arguments_are_named() {
    for (args, named) in [
        (&["stress", "--preset", "fastest"][..], "--preset"),
        (&["stress", "--shards", "none"], "--shards"),
        (&["soak", "--seconds", "0"], "--seconds"),
        (&["load", "localhost"], "HOST:PORT"),
        (
            &["load", "localhost:80", "--send", r"\y", "--until", "x"],
            "--send",
        ),
        (&["load", "localhost:80", "--send", "x"], "--until"),
        (&["resolve", "a b"], "NAME"),
        (&["resolve", "a.test", "--type", "SRV"], "underscore"),
        (&["resolve", "a.test", "--type", "MX"], "--type"),
        (&["resolve", "a.test", "--server", "dns.test"], "--server"),
        (&["jump"], "jump"),
    ] {
        let output = ringpool(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(err(&output).contains(named), "{args:?}: {}", err(&output));
    }
}

#[test]
fn a_report_that_cannot_be_written_stops_the_run_before_it_starts() {
    let output = ringpool(&[
        "stress",
        "--preset",
        "high_reuse",
        "--json",
        "/nowhere/stress.json",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let text = err(&output);
    assert!(
        text.contains("--json") && text.contains("/nowhere"),
        "{text}"
    );
    assert!(!text.contains("high_reuse"), "{text}");
}

#[test]
fn help_names_every_preset() {
    let output = ringpool(&["stress", "--help"]);
    assert!(output.status.success());
    let text = out(&output);
    for preset in [
        "high_reuse",
        "many_endpoints",
        "high_concurrency",
        "large_messages",
        "constrained_pool",
        "burst_traffic",
        "four_addresses",
        "dns_changes",
        "address_dies",
        "outage",
        "uneven_cores",
        "process_limit",
        "extended_stress",
    ] {
        assert!(text.contains(preset), "{preset} is not in\n{text}");
    }
}

#[cfg(feature = "sim")]
#[test]
fn simulate_runs_fresh_seeds_a_file_of_seeds_and_one_seed_with_its_trace() {
    let many = ringpool(&["simulate", "--schedules", "20", "--from", "1"]);
    assert!(many.status.success(), "{}", err(&many));
    assert!(out(&many).starts_with("20 schedules in "), "{}", out(&many));

    let file = scratch("seeds.txt");
    std::fs::write(&file, "# two\n3\n\n4 # the other\n").unwrap();
    let listed = ringpool(&["simulate", "--seeds", file.to_str().unwrap()]);
    assert!(listed.status.success(), "{}", err(&listed));
    assert!(out(&listed).starts_with("2 schedules in "));

    std::fs::write(&file, "3\nfour\n").unwrap();
    let bad = ringpool(&["simulate", "--seeds", file.to_str().unwrap()]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(
        err(&bad).contains("seeds.txt:2: \"four\" is not a seed"),
        "{}",
        err(&bad)
    );

    let trace = || out(&ringpool(&["simulate", "--seed", "5", "--trace"]));
    let first = trace();
    assert!(first.lines().count() > 100 && first.contains("seed 5: "));
    // Another process, where hash maps have other orders.
    assert_eq!(first, trace());
}
