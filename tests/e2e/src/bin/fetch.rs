//! Fetches what the laws need and this machine lacks: the servers and the foreign readers.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it reports to a person")]

use std::process::ExitCode;

use lakeward_testkit::servers::{self, Version, mariadb};
use lakeward_testkit::{Result, readers};

fn main() -> ExitCode {
    match fetch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// All at once: they wait for networks and disks. The first error, when all have ended.
fn fetch() -> Result<()> {
    std::thread::scope(|scope| {
        let tasks = [postgres, mariadb, readers, spark].map(|task| scope.spawn(task));
        let ended = tasks.map(|task| task.join().unwrap_or_else(|_| Err("a fetcher broke".into())));
        ended.into_iter().collect()
    })
}

fn postgres() -> Result<()> {
    for version in Version::ALL {
        let programs = servers::programs(version)?;
        println!("postgres {}: {}", version.major(), programs.bin.display());
    }
    Ok(())
}

fn mariadb() -> Result<()> {
    for version in mariadb::Version::ALL {
        let programs = mariadb::programs(version)?;
        println!("mariadb {}: {}", version.number(), programs.home.display());
    }
    Ok(())
}

fn readers() -> Result<()> {
    println!("readers: {}", readers::python()?.display());
    Ok(())
}

fn spark() -> Result<()> {
    match readers::spark()? {
        Some(home) => println!("spark: {}", home.display()),
        None => println!("spark: no java here, so no Java judges"),
    }
    Ok(())
}
