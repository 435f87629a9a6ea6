//! Fetches what the laws need and this machine lacks: the servers and the foreign readers.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it reports to a person")]

use std::process::ExitCode;

use lakeward_testkit::servers::Version;
use lakeward_testkit::{Result, readers, servers};

fn main() -> ExitCode {
    match fetch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn fetch() -> Result<()> {
    for version in Version::ALL {
        let programs = servers::programs(version)?;
        println!("postgres {}: {}", version.major(), programs.bin.display());
    }
    println!("readers: {}", readers::python()?.display());
    Ok(())
}
