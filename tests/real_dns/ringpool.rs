//! What `ringpool resolve --json` says, taken apart.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;

/// How it ended.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub(crate) status: i32,
    pub(crate) json: Value,
    pub(crate) errors: String,
}

/// One address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address {
    pub(crate) ip: String,
    pub(crate) port: Option<u64>,
    pub(crate) priority: u64,
    pub(crate) weight: u64,
}

impl Resolved {
    /// In the order in which they would be tried.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        let number = |of: &Value, name: &str| of[name].as_u64();
        let list = self.json["addresses"].as_array().expect("a list");
        let address = |it: &Value| Address {
            ip: it["ip"].as_str().expect("a text").to_owned(),
            port: number(it, "port"),
            priority: number(it, "priority").expect("a number"),
            weight: number(it, "weight").expect("a number"),
        };
        list.iter().map(address).collect()
    }

    pub(crate) fn ips(&self) -> Vec<String> {
        self.addresses().into_iter().map(|it| it.ip).collect()
    }

    pub(crate) fn ttl(&self) -> Option<u32> {
        self.json["ttl_s"]
            .as_u64()
            .and_then(|ttl| ttl.try_into().ok())
    }

    /// The kind of the error and its text.
    pub(crate) fn error(&self) -> Option<(String, String)> {
        let error = self.json["error"].as_object()?;
        let text = |name: &str| error[name].as_str().map(ToOwned::to_owned);
        Some((text("kind")?, text("text")?))
    }
}

/// Resolves `name` by asking `server`.
pub(crate) fn resolve(server: SocketAddr, name: &str, kind: Option<&str>) -> Resolved {
    let server = server.to_string();
    let mut args = vec!["resolve", name, "--json", "--server", &server];
    args.extend(kind.iter().flat_map(|kind| ["--type", kind]));
    let output = Command::new(env!("CARGO_BIN_EXE_ringpool"))
        .args(&args)
        .output()
        .expect("the binary starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let json = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{args:?}: {error}: {text:?} {errors:?}"));
    Resolved {
        status: output.status.code().expect("it ends by itself"),
        json,
        errors,
    }
}
