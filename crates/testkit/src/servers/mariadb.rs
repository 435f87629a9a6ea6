//! MariaDB's programs: the system's own where the version fits, else unpacked from a Debian release,
//! and a freshly made data folder that every server starts from. It starts no server.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{cache, debian};
use crate::watched::unprivileged;
use crate::{Result, fail, host};

/// A MariaDB release that the tests know how to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// The long-term release of Debian 12.
    V10_11,
    /// The long-term release of Debian 13.
    V11_8,
}

impl Version {
    /// Every version the laws run on.
    pub const ALL: [Version; 2] = [Version::V10_11, Version::V11_8];

    /// `10.11`
    pub fn number(self) -> &'static str {
        match self {
            Version::V10_11 => "10.11",
            Version::V11_8 => "11.8",
        }
    }

    /// The Debian releases that have it.
    fn releases(self) -> &'static [&'static str] {
        match self {
            Version::V10_11 => &["bookworm"],
            Version::V11_8 => &["trixie", "sid"],
        }
    }
}

/// An installed MariaDB.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Holds `bin/mariadb`, `bin/mariadb-binlog` (where it could be had), `sbin/mariadbd` and `share/`.
    pub home: PathBuf,
    /// The message files and character sets.
    pub share: PathBuf,
    /// The plugins; none for a system package, which knows its own.
    pub plugins: Option<PathBuf>,
    /// A data folder that nobody has used.
    pub template: PathBuf,
}

impl Programs {
    /// The server.
    pub fn server(&self) -> PathBuf {
        self.home.join("sbin/mariadbd")
    }

    /// A client program by name: `mariadb`, `mariadb-binlog`.
    pub fn client(&self, name: &str) -> PathBuf {
        self.home.join("bin").join(name)
    }
}

/// The packages with the server, its set-up script and the clients.
const PACKAGES: &[&str] = &["mariadb-server-core", "mariadb-client-core", "mariadb-server"];

/// What is wrapped, of what there is.
const PROGRAMS: &[&str] = &[
    "sbin/mariadbd",
    "bin/my_print_defaults",
    "bin/resolveip",
    "bin/mariadb",
    "bin/mariadb-binlog",
];

/// True if [`programs`] would succeed without fetching anything.
pub fn installed(version: Version) -> bool {
    folder(version).join("template").exists()
}

/// Finds the server's programs, fetching them if they can be fetched.
pub fn programs(version: Version) -> Result<Programs> {
    let folder = folder(version);
    let _lock = host::lock(&format!("mariadb-{}", version.number()))?;
    let programs = if system_has(version) { system(&folder) } else { unpacked(version, &folder)? };
    make_template(&programs)?;
    Ok(programs)
}

fn folder(version: Version) -> PathBuf {
    cache(&format!("mariadb-{}", version.number()))
}

fn system_has(version: Version) -> bool {
    let said = host::run(Command::new("/usr/sbin/mariadbd").arg("--version")).unwrap_or_default();
    said.contains(&format!("Ver {}.", version.number()))
        && Path::new("/usr/bin/mariadb-install-db").exists()
}

fn system(folder: &Path) -> Programs {
    let share = ["/usr/share/mariadb", "/usr/share/mysql"].map(PathBuf::from);
    Programs {
        home: PathBuf::from("/usr"),
        share: with_charsets(share),
        plugins: None,
        template: folder.join("template"),
    }
}

fn with_charsets([first, second]: [PathBuf; 2]) -> PathBuf {
    if first.join("charsets").exists() { first } else { second }
}

fn unpacked(version: Version, folder: &Path) -> Result<Programs> {
    let tree = folder.join("tree");
    if !tree.exists() {
        fetch(version, &tree)?;
    }
    let home = folder.join("wrap");
    if !home.exists() {
        wrap(&tree, &home)?;
    }
    Ok(Programs {
        home,
        share: with_charsets(["mariadb", "mysql"].map(|name| tree.join("usr/share").join(name))),
        plugins: Some(tree.join("usr/lib/mysql/plugin")),
        template: folder.join("template"),
    })
}

fn fetch(version: Version, tree: &Path) -> Result<()> {
    let parent = tree.parent().unwrap_or(tree);
    fs::create_dir_all(parent)?;
    let mut said = Vec::new();
    for release in version.releases() {
        let work = tempfile::tempdir_in(parent)?;
        let fresh = work.path().join("tree");
        let outcome = debian::unpack(release, PACKAGES, &fresh);
        let outcome = outcome.and_then(|()| has_version(&fresh, version));
        match outcome {
            Ok(()) => return Ok(fs::rename(fresh, tree)?),
            Err(error) => said.push(format!("{release}: {error}")),
        }
    }
    fail!("MariaDB {} cannot be had: {}", version.number(), said.join("; "))
}

/// Releases move: what was fetched must be what was wanted.
fn has_version(tree: &Path, version: Version) -> Result<()> {
    let script = tree.join("version");
    debian::wrap(tree, &tree.join("usr/sbin/mariadbd"), &script)?;
    let said = host::run(Command::new(&script).args(["--no-defaults", "--version"]))?;
    fs::remove_file(script)?;
    if !said.contains(&format!("Ver {}.", version.number())) {
        fail!("this is another version: {said}");
    }
    Ok(())
}

/// A folder as the set-up script expects it, with scripts that find their libraries.
fn wrap(tree: &Path, home: &Path) -> Result<()> {
    let work = tempfile::tempdir_in(home.parent().unwrap_or(home))?;
    let fresh = work.path().join("wrap");
    for part in ["bin", "sbin", "share"] {
        fs::create_dir_all(fresh.join(part))?;
    }
    for name in ["mariadb", "mysql"] {
        symlink(tree.join("usr/share").join(name), fresh.join("share").join(name))?;
    }
    for name in PROGRAMS {
        let program = tree.join("usr").join(name);
        if program.exists() {
            debian::wrap(tree, &program, &fresh.join(name))?;
        }
    }
    let script = tree.join("usr/bin/mariadb-install-db");
    fs::copy(script, fresh.join("bin/mariadb-install-db"))?;
    host::run(Command::new("chmod").args(["-R", "a+rX"]).arg(&fresh))?;
    Ok(fs::rename(fresh, home)?)
}

fn make_template(programs: &Programs) -> Result<()> {
    if programs.template.exists() {
        return Ok(());
    }
    let parent = programs.template.parent().unwrap_or(&programs.template);
    fs::create_dir_all(parent)?;
    let work = tempfile::tempdir_in(parent)?;
    if let Some((uid, gid)) = host::unprivileged()? {
        std::os::unix::fs::chown(work.path(), Some(uid), Some(gid))?;
    }
    let fresh = work.path().join("data");
    let mut command = unprivileged(Path::new("/bin/sh"), work.path())?;
    command.arg(programs.client("mariadb-install-db")).arg("--no-defaults");
    command.arg(format!("--basedir={}", programs.home.display()));
    command.arg(format!("--datadir={}", fresh.display()));
    command.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
    command.args(["--skip-name-resolve", "--innodb-log-file-size=32M"]);
    host::run(&mut command)?;
    Ok(fs::rename(fresh, &programs.template)?)
}
