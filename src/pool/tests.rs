//! A core whose ring can do no more, seen from the face, and what it leaves to the others.

use std::net::{Ipv4Addr, TcpListener};
use std::num::NonZeroUsize;

use super::*;
use crate::config::Config;
use crate::shards::Shards;

#[test]
fn r7_x5_a_shard_that_lost_completions_fails_all_and_leaves_its_permits() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let name = listener.local_addr().unwrap().to_string();
    let config = Config {
        max_connections_per_endpoint: 1,
        ..Config::default()
    };
    let two = NonZeroUsize::new(2).unwrap();
    let shards = Shards::builder()
        .shards(two)
        .config(config)
        .build()
        .unwrap();
    let dying = {
        let name = name.clone();
        move || async move {
            let pool = Pool::local()?;
            let conn = pool.get(&*name).await?;
            let waiting = crate::spawn({
                let (pool, name) = (pool.clone(), name.clone());
                async move { pool.get(&*name).await.map(drop) }
            });
            while pool.stats(&*name)?.waiters == 0 {
                tokio::task::yield_now().await;
            }
            pool.shard.enter(|core| {
                let lost = || Some(libc::EBADR);
                core.backend.set_fault(Some(Box::new(lost)));
            });
            conn.write_all(b"the ring is asked to work").await?;
            let errors = [
                conn.read_line(64).await.unwrap_err(),
                waiting.await?.unwrap_err(),
                pool.get(&*name).await.unwrap_err(),
                pool.try_get(&*name).unwrap_err(),
            ];
            conn.release();
            Ok::<_, Error>(errors)
        }
    };
    let errors = shards.run_on(0, dying).unwrap().wait().unwrap().unwrap();
    for error in errors {
        assert_eq!(error.raw_os_error(), Some(libc::EBADR), "{error}");
    }
    let heir = move || async move { Pool::local()?.get(&*name).await.map(Conn::release) };
    shards.run_on(1, heir).unwrap().wait().unwrap().unwrap();
    drop(listener);
}
