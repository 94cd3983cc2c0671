//! Group S: what belongs to one endpoint, partition or user reaches no other.

use super::*;

use ringpool::{Endpoint, Stream};

/// A protocol with a key of its own: credentials, options, whatever tells users apart.
struct Keyed(&'static str);

impl Protocol for Keyed {
    type State = ();

    fn key(&self) -> String {
        self.0.to_owned()
    }

    async fn init(&self, _stream: Stream) -> Result<()> {
        Ok(())
    }
}

/// The same key in another type.
struct OtherType;

impl Protocol for OtherType {
    type State = ();

    fn key(&self) -> String {
        "a".to_owned()
    }

    async fn init(&self, _stream: Stream) -> Result<()> {
        Ok(())
    }
}

/// One use of a connection; whether it was used before.
async fn reused<P: Protocol>(pool: Pool<P>, endpoint: Endpoint) -> Result<bool> {
    let conn = pool.get(endpoint).await?;
    ping(&conn).await?;
    let reused = conn.is_reused();
    conn.release();
    Ok(reused)
}

#[test]
fn s2_s3_s4_s5_s6_connections_are_shared_within_one_key_alone() {
    seeds(20, |seed| {
        let world = world(seed, Config::default());
        let server = ponging(&world);
        // The same address under another name, as two virtual hosts.
        let ip = server.addresses()[0].ip();
        world.set_name("other.test", &[ip], secs(60));
        let all = on(&world, 0, async |pool| {
            let plain: Endpoint = NAME.parse()?;
            let tenant = |label: &str| plain.with_partition(label);
            let other: Endpoint = "other.test:7000".parse()?;
            let mut all = Vec::new();
            for _ in 0..2 {
                all.push(reused(pool.clone(), plain.clone()).await?);
                all.push(reused(pool.clone(), tenant("a")).await?);
                all.push(reused(pool.clone(), tenant("b")).await?);
                all.push(reused(pool.clone(), tenant("")).await?);
                all.push(reused(pool.clone(), other.clone()).await?);
                all.push(reused(pool.protocol(Keyed("a")), plain.clone()).await?);
                all.push(reused(pool.protocol(Keyed("b")), plain.clone()).await?);
                all.push(reused(pool.protocol(OtherType), plain.clone()).await?);
                all.push(reused(pool.protocol(Keyed("a")), tenant("a")).await?);
            }
            Ok(all)
        });
        let all = all.unwrap();
        let (first, second) = all.split_at(all.len() / 2);
        assert!(
            first.iter().all(|reused| !reused),
            "two keys share: {first:?}"
        );
        assert!(
            second.iter().all(|reused| *reused),
            "one key is two: {second:?}"
        );
        assert_eq!(server.connects(), first.len());
        nothing_left(&world, &[server]);
    });
}

#[test]
fn s7_every_spelling_of_a_host_is_one_key_and_a_name_is_no_address() {
    let world = world(1, Config::default());
    let server = ponging(&world);
    let ip = server.addresses()[0].ip();
    world.set_name("xn--bcher-kva.test", &[ip], secs(60));
    on(&world, 0, async |pool| {
        for spelling in [
            "service.test:7000",
            "SERVICE.test:7000",
            "Service.Test:7000",
        ] {
            reused(pool.clone(), spelling.parse()?).await?;
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(server.connects(), 1, "one name has two keys");
    on(&world, 0, async |pool| {
        for spelling in [
            "bücher.test:7000",
            "BÜCHER.test:7000",
            "xn--bcher-kva.test:7000",
        ] {
            reused(pool.clone(), spelling.parse()?).await?;
        }
        assert!(!reused(pool.clone(), "10.0.0.1:7000".parse()?).await?);
        Ok(())
    })
    .unwrap();
    assert_eq!(
        server.connects(),
        3,
        "names and addresses are keys of their own"
    );
    nothing_left(&world, &[server]);
}

#[test]
fn s9_a_buffer_that_was_used_before_shows_nothing_of_its_first_user() {
    seeds(20, |seed| {
        let config = Config {
            recv_buffers: 8,
            recv_buffer_size: 512,
            recv_limit: 512,
            ..Config::default()
        };
        let world = world(seed, config);
        let first = world.server("first.test:7000", &["10.0.0.8"]).unwrap();
        first.on_connect(Script::new().send([0xAA; 8192]));
        let server = ponging(&world);
        on(&world, 0, async |pool| {
            let conn = pool.get("first.test:7000").await?;
            conn.read_exact(&mut [0; 8192]).await?;
            conn.close();
            // Each of the eight buffers was full of the first user's bytes.
            for _ in 0..16 {
                let conn = pool.get(NAME).await?;
                conn.write_all(b"ping").await?;
                let chunk = conn.read_chunk().await?.unwrap();
                assert_eq!(&*chunk, b"pong");
                drop(chunk);
                conn.release();
            }
            Ok(())
        })
        .unwrap();
        nothing_left(&world, &[server, first]);
    });
}

#[test]
fn s12_odd_hosts_are_refused_before_anything_is_asked_or_dialed() {
    let odd = [
        "a\0b:80",
        "a\r\nb:80",
        "a b:80",
        "a@b:80",
        "a/b:80",
        "0177.0.0.1:80",
        "0x7f.1:80",
        "127.1:80",
        "2130706433:80",
        "[::1:80",
        "::1:80",
        "-a.test:80",
        "a..b:80",
        ".:80",
        "a:0",
        "a:65536",
        "a:8 0",
        "a:80\n",
        "",
        ":80",
    ];
    let world = world(1, Config::default());
    on(&world, 0, async move |pool| {
        for text in odd {
            let error = pool.get(text).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text:?}: {error:?}");
            assert!(!error.to_string().contains(['\0', '\r', '\n']), "{error:?}");
        }
        Ok(())
    })
    .unwrap();
    assert_eq!((world.questions(), world.sockets(0)), (0, 0));
    nothing_left(&world, &[]);
}

#[test]
fn s13_a_name_from_the_name_server_puts_no_control_byte_into_any_text() {
    seeds(10, |seed| {
        let config = Config {
            connect_retry_count: 0,
            ..Config::default()
        };
        let world = World::builder(seed)
            .config(config)
            .trace(true)
            .build()
            .unwrap();
        let server = ponging(&world);
        world.set_alias("service.test", b"a\0b\r\nHost: c\x1b[31m\xff");
        let texts = on(&world, 0, async move |pool| {
            pool.start_trace(256);
            let mut texts = Vec::new();
            // With the alias it is served; where nobody listens the error says whom it meant.
            exchange(&pool).await?;
            let error = pool.get("service.test:7001").await.unwrap_err();
            texts.extend([error.to_string(), format!("{error:?}")]);
            texts.push(format!("{:?} {:?}", pool.take_trace(), pool.all_stats()));
            Ok(texts)
        });
        let texts = texts.unwrap().into_iter().chain(world.take_trace());
        for text in texts {
            assert!(!text.contains(char::is_control), "{text:?}");
        }
        nothing_left(&world, &[server]);
    });
}

#[test]
fn s14_no_error_and_no_debug_form_shows_what_was_sent_or_received() {
    let secret = "hunter2";
    let config = Config {
        read_timeout: ms(100),
        ..Config::default()
    };
    let world = world(1, config);
    let server = world.server(NAME, &["10.0.0.1"]).unwrap();
    server.on_connect(Script::new().take(8).send("token=hunter2 and no end"));
    server.on_connect(Script::new().take(8).send("hunter2").reset());
    let texts = on(&world, 0, async move |pool| {
        pool.start_trace(256);
        let mut texts = Vec::new();
        for _ in 0..2 {
            let pool = pool.protocol(Keyed("hunter2"));
            let conn = pool.get(NAME).await?;
            conn.write_all(b"hunter2\n").await?;
            let error = conn.read_line(16).await.unwrap_err();
            texts.extend([
                error.to_string(),
                format!("{error:?}"),
                format!("{conn:?} {pool:?}"),
            ]);
            let error = conn.read_exact(&mut [0; 64]).await.unwrap_err();
            texts.push(format!("{error:?} {:?}", pool.endpoint(NAME)?));
            conn.close();
        }
        texts.push(format!("{:?} {:?}", pool.take_trace(), pool.all_stats()));
        Ok(texts)
    });
    for text in texts.unwrap() {
        assert!(!text.contains(secret), "{text}");
    }
    nothing_left(&world, &[server]);
}

#[test]
fn s17_an_answer_full_of_closed_ports_makes_few_connects() {
    seeds(10, |seed| {
        let config = Config {
            get_timeout: secs(4),
            ..Config::default()
        };
        let world = world(seed, config);
        let all: Vec<_> = (1..=64).map(|n| format!("10.1.0.{n}")).collect();
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        let servers = [world.server(NAME, &all).unwrap()];
        servers[0].refuse();
        let ended = gets_at_once(&world, 1, 16);
        world.run_for(ms(50)).unwrap();
        // A round dials each address once, and what was under way when it failed: the last sixteen
        // are shared by sixteen openings, which is 16 × (1 + 1/2 + … + 1/16), or 54, when they are
        // shared evenly.
        let round = 48 + 4 * 16;
        assert!(
            dials_of(&servers) <= round,
            "{} connects at once",
            dials_of(&servers)
        );
        world.run().unwrap();
        let all = dials_of(&servers);
        // Half of them are out for all cores; each of those has a probe every 1.5 s.
        let probes = 2 * 32;
        assert!(all <= 4 * round + probes, "{all} connects in four rounds");
        let each = servers[0].addresses().iter();
        let each = each.map(|address| servers[0].dials(*address).len());
        assert!(each.min() >= Some(4), "an address was not tried");
        let (served, failed) = sorted(&ended.borrow());
        assert_eq!((served, failed.len()), (0, 16));
        nothing_left(&world, &servers);
    });
}
