//! Reading and writing: every method, its limits, its errors, and what a cancelled one leaves.

mod support;

use std::io::{Read, Write};
use std::time::Duration;

use ringpool::{CloseReason, Config, ErrorKind, Pool};
use support::{Server, eventually_async, on_one_shard, poll_times};

/// Says `lines`, one write each, when it hears a byte.
fn says(parts: Vec<&'static [u8]>) -> Server {
    Server::new(move |mut stream, counters| {
        let mut byte = [0];
        for part in &parts {
            if stream.read_exact(&mut byte).is_err() || stream.write_all(part).is_err() {
                return;
            }
        }
        if parts.last().is_some_and(|last| last.is_empty()) {
            return;
        }
        support::swallow(stream, counters);
    })
}

#[test]
fn r11_answers_as_large_as_the_receive_limit_and_larger_leave_their_connection_open() {
    for size in [64 * 1024, 256 * 1024] {
        let server = Server::new(move |mut stream, _counters| {
            let answer = vec![7; size];
            let mut byte = [0];
            while stream.read_exact(&mut byte).is_ok() && stream.write_all(&answer).is_ok() {}
        });
        let name = server.name();
        on_one_shard(Config::default(), async move || {
            let pool = Pool::local()?;
            let mut answer = vec![0; size];
            for _ in 0..100 {
                let conn = pool.get(&*name).await?;
                conn.write_all(b"?").await?;
                conn.read_exact(&mut answer).await?;
                conn.release();
            }
            let stats = pool.stats(&*name)?;
            assert_eq!((stats.created, stats.closed), (1, 0), "{size} bytes");
            Ok(())
        });
    }
}

#[test]
fn k9_a_cancelled_read_loses_no_byte() {
    let server = says(vec![b"first ", b"half and the rest\n"]);
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let conn = Pool::local()?.get(&*name).await?;
        for times in 1..20 {
            let mut whole = [0; 64];
            assert!(
                poll_times(conn.read_until(b"\n", 64), times)
                    .await
                    .is_none()
            );
            assert!(
                poll_times(conn.read_exact(&mut whole), times)
                    .await
                    .is_none()
            );
            assert!(poll_times(conn.read_to_end(64), times).await.is_none());
            if times == 1 {
                conn.write_all(b".").await?;
            }
        }
        conn.write_all(b".").await?;
        assert_eq!(conn.read_line(64).await?, "first half and the rest");
        conn.release();
        Ok(())
    });
}

#[test]
fn k10_s10_a_cancelled_write_makes_the_connection_unusable_for_others() {
    let server = Server::new(|stream, _counters| {
        // Reads nothing until the connection ends, so that the writer must wait.
        let _ended = stream.peek(&mut [0]);
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        support::eventually("the writer gives up", || {
            stream.take_error().is_ok_and(|error| error.is_some())
                || matches!((&stream).read(&mut [0; 65536]), Ok(0) | Err(_))
        });
    });
    let name = server.name();
    let config = Config {
        send_limit: 4096,
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        let conn = pool.get(&*name).await?;
        let message = vec![7; 64 * 1024 * 1024];
        assert!(poll_times(conn.write_all(&message), 3).await.is_none());
        conn.release();
        eventually_async("it closes", || pool.stats(&*name).unwrap().closed == 1).await;
        assert_eq!(
            pool.stats(&*name)?.closed_by(CloseReason::UnfinishedWrite),
            1
        );
        Ok(())
    });
}

#[test]
fn buffered_reads_stop_at_their_maximum_and_lose_nothing() {
    let server = says(vec![b"0123456789\n"]);
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let conn = Pool::local()?.get(&*name).await?;
        conn.write_all(b".").await?;
        let error = conn.read_until(b"\n", 4).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLong);
        assert_eq!(
            error.to_string(),
            r#"4 bytes came without the delimiter "\n""#
        );
        let error = conn.read_to_end(4).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLong);
        assert_eq!(conn.read_line(11).await?, "0123456789");
        assert_eq!(
            conn.read_until(b"", 4).await.unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        conn.release();
        Ok(())
    });
}

#[test]
fn e10_a_delimiter_split_over_pieces_is_found() {
    let server = says(vec![b"head\r", b"\n\r", b"\nbody", b""]);
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let conn = Pool::local()?.get(&*name).await?;
        conn.write_all(b"..").await?;
        conn.flush().await?;
        let asked = ringpool::spawn({
            let stream = conn.stream().clone();
            async move { stream.write_all(b"..").await }
        });
        assert_eq!(conn.read_until(b"\r\n\r\n", 64).await?, b"head\r\n\r\n");
        asked.await??;
        assert_eq!(conn.read_to_end(64).await?, b"body");
        let mut none = [0; 4];
        assert_eq!(conn.read(&mut none).await?, 0);
        let error = conn.read_exact(&mut none).await.unwrap_err();
        assert!(error.is_closed(), "{error}");
        Ok(())
    });
}

#[test]
fn e6_a_silent_peer_runs_into_the_read_timeout() {
    let server = Server::new(support::swallow);
    let name = server.name();
    let config = Config {
        read_timeout: Duration::from_millis(50),
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        let conn = pool.get(&*name).await?;
        conn.write_all(b"hello?").await?;
        let error = conn.read_line(64).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReadTimeout, "{error}");
        drop(conn);
        eventually_async("it closes", || pool.stats(&*name).unwrap().permits == 0).await;
        Ok(())
    });
}

#[test]
fn a_reset_is_an_error_and_the_connection_is_not_reused() {
    let server = Server::new(|mut stream, _counters| {
        let mut byte = [0];
        let _heard = stream.read_exact(&mut byte);
        // Closing with a byte unread sends a reset.
        let _heard = stream.peek(&mut byte);
    });
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let pool = Pool::local()?;
        let conn = pool.get(&*name).await?;
        conn.write_all(b"ab").await?;
        let error = conn.read_line(64).await.unwrap_err();
        assert!(error.is_closed(), "{error}");
        assert_eq!(error.raw_os_error(), Some(104), "{error}");
        conn.release();
        eventually_async("it closes", || pool.stats(&*name).unwrap().closed == 1).await;
        assert_eq!(pool.stats(&*name)?.closed_by(CloseReason::Reset), 1);
        Ok(())
    });
}

#[test]
fn e10_megabytes_come_back_as_they_went() {
    let server = Server::echo();
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let conn = Pool::local()?.get(&*name).await?;
        let sent: Vec<u8> = (0..8 * 1024 * 1024u32)
            .map(|n| (n * 31 % 251) as u8)
            .collect();
        let writing = ringpool::spawn({
            let (stream, sent) = (conn.stream().clone(), sent.clone());
            async move { stream.write_all(&sent).await }
        });
        let mut got = vec![0; sent.len()];
        conn.read_exact(&mut got).await?;
        writing.await??;
        assert!(got == sent);
        conn.release();
        Ok(())
    });
}

#[test]
fn an_owned_buffer_is_sent_in_order_and_comes_back() {
    let server = Server::echo();
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let conn = Pool::local()?.get(&*name).await?;
        conn.write_all(b"one ").await?;
        let (sent, buf) = conn.write_owned(b"two ".repeat(1000)).await;
        assert_eq!((sent.unwrap(), buf.len()), (4000, 4000));
        conn.write_all(b"three\n").await?;
        let line = conn.read_line(8192).await?;
        assert!(
            line.starts_with("one two two") && line.ends_with("two three"),
            "{line}"
        );
        let (sent, _empty) = conn.write_owned(Vec::new()).await;
        assert_eq!(sent.unwrap(), 0);
        conn.release();
        assert_eq!(Pool::local()?.stats(&*name)?.idle, 1);
        Ok(())
    });
}

#[test]
fn a_half_close_reaches_the_peer_and_its_answer_comes() {
    let server = Server::new(|mut stream, _counters| {
        let mut all = Vec::new();
        let _read = stream.read_to_end(&mut all);
        let _gone = stream.write_all(format!("{} bytes", all.len()).as_bytes());
    });
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let pool = Pool::local()?;
        let conn = pool.get(&*name).await?;
        conn.write_all(&[0; 1000]).await?;
        conn.shutdown().await?;
        assert_eq!(conn.read_to_end(64).await?, b"1000 bytes");
        conn.release();
        eventually_async("it closes", || pool.stats(&*name).unwrap().closed == 1).await;
        Ok(())
    });
}

#[test]
fn chunks_lend_the_kernels_bytes_and_outlive_the_connection() {
    let server = says(vec![b"some bytes"]);
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let conn = Pool::local()?.get(&*name).await?;
        conn.write_all(b".").await?;
        let mut chunk = conn.read_chunk().await?.unwrap();
        conn.close();
        chunk.advance(5);
        assert_eq!(&chunk[..], b"bytes");
        Ok(())
    });
}

#[test]
fn a_handle_that_outlives_its_connection_gets_an_error() {
    let server = Server::echo();
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let pool = Pool::local()?;
        let conn = pool.get(&*name).await?;
        let stream = conn.stream().clone();
        conn.close();
        assert!(stream.write_all(b"late").await.unwrap_err().is_closed());
        eventually_async("it closes", || pool.stats(&*name).unwrap().permits == 0).await;
        // The slot's next tenant is not reached by the old handle.
        let next = pool.get(&*name).await?;
        assert!(stream.read(&mut [0]).await.unwrap_err().is_closed());
        assert!(stream.peer_addr().is_err());
        next.release();
        Ok::<_, ringpool::Error>(())
    });
}
