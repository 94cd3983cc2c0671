//! A report that cannot be written after a long run is a run lost. Files named on the command line
//! are opened before anything starts.
//!
//! Promise: what was in the file stays until the new content is there to be written.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ringpool::{Error, ErrorKind, Result};

/// A file named by an argument.
#[derive(Debug)]
pub(crate) struct Output {
    argument: &'static str,
    path: PathBuf,
    file: File,
}

impl Output {
    /// Opens the file that `argument` names.
    pub(crate) fn open(argument: &'static str, path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(path);
        let file = file.map_err(|error| failed("opening", argument, path, error))?;
        Ok(Self {
            argument,
            path: path.to_owned(),
            file,
        })
    }

    /// Replaces its content.
    pub(crate) fn write(&mut self, content: &str) -> Result<()> {
        self.replace(content)
            .map_err(|error| failed("writing", self.argument, &self.path, error))
    }

    fn replace(&mut self, content: &str) -> io::Result<()> {
        // A pipe or a device has no length to set.
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        self.file.write_all(content.as_bytes())?;
        self.file.flush()
    }
}

/// Writes results to the output.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush());
    written.map_err(|error| Error::from_source(ErrorKind::Io, error).context("writing the results"))
}

fn failed(doing: &str, argument: &str, path: &Path, error: io::Error) -> Error {
    Error::from_source(ErrorKind::Io, error)
        .context(format!("{doing} {} ({argument})", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_content_stays_until_the_new_one_is_written() {
        let path = std::env::temp_dir().join(format!("ringpool-output-{}", std::process::id()));
        std::fs::write(&path, "old and long").unwrap();
        let mut output = Output::open("--json", &path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old and long");
        output.write("new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn an_error_names_the_argument_and_the_file() {
        let error = Output::open("--html", Path::new("/nowhere/report.html")).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("/nowhere/report.html (--html)"), "{text}");
    }
}
