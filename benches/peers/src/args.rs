//! The words of the command line.

use std::path::PathBuf;

pub struct Args {
    pub workload: Option<String>,
    /// A part of the names of the cases that run.
    pub case: Option<String>,
    pub is_short: bool,
    pub json: Option<PathBuf>,
    pub html: Option<PathBuf>,
    pub markdown: Option<PathBuf>,
    /// Where to write the counts, and with which to compare them.
    pub record: Option<PathBuf>,
    pub check: Option<PathBuf>,
}

impl Args {
    pub fn runs(&self, workload: &str) -> bool {
        self.workload.as_deref().is_none_or(|one| one == workload)
    }

    pub fn has_case(&self, case: &str) -> bool {
        let part = self.case.as_deref();
        part.is_none_or(|part| case.contains(part))
    }
}

/// What this process is to do.
pub enum Job {
    Help,
    Compare(Args),
    /// A process that was started by a comparison: a contender does its work.
    Child {
        workload: String,
        entry: String,
        settings: String,
    },
    /// The same: a server.
    Serve(String),
}

pub fn parse(mut words: impl Iterator<Item = String>, workloads: &[&str]) -> Result<Job, String> {
    let mut args = Args {
        workload: None,
        case: None,
        is_short: false,
        json: None,
        html: None,
        markdown: None,
        record: None,
        check: None,
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match &*word {
            "--workload" => args.workload = Some(value()?),
            "--case" => args.case = Some(value()?),
            "--short" => args.is_short = true,
            "--json" => args.json = Some(value()?.into()),
            "--html" => args.html = Some(value()?.into()),
            "--markdown" => args.markdown = Some(value()?.into()),
            "--record" => args.record = Some(value()?.into()),
            "--check" => args.check = Some(value()?.into()),
            "--help" | "-h" => return Ok(Job::Help),
            "--serve" => return Ok(Job::Serve(value()?)),
            "--child" => {
                let (workload, entry, settings) = (value()?, value()?, value()?);
                return Ok(Job::Child {
                    workload,
                    entry,
                    settings,
                });
            }
            _ => return Err(format!("unknown argument {word:?}")),
        }
    }
    match args.workload.as_deref() {
        Some(other) if !workloads.contains(&other) => {
            Err(format!("--workload: there is no {other:?}"))
        }
        _ => Ok(Job::Compare(args)),
    }
}
