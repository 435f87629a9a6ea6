//! How a connection proves who it is: SCRAM-SHA-256, MD5 or clear text, as the server asks.
//!
//! Deliberately absent: GSSAPI, SSPI, channel binding.
use lakeward_core::{Error, ErrorKind, Result, Secret};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;

use crate::config::Settings;

use super::{ReplicationConnection, Step, bad_text, unexpected};

const OK: u32 = 0;
const CLEAR_TEXT: u32 = 3;
const MD5: u32 = 5;
const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;

/// Answers the server until it says that all is well.
pub(super) async fn authenticate(
    connection: &mut ReplicationConnection,
    settings: &Settings,
) -> Result<()> {
    let (code, body) = challenge(connection).await?;
    match code {
        OK => return Ok(()),
        CLEAR_TEXT => {
            let password = password(settings)?.expose().as_bytes().to_vec();
            send_password(connection, &password).await?;
        }
        MD5 => {
            let salt = *body.first_chunk::<4>().ok_or_else(|| unexpected("authentication"))?;
            let secret = password(settings)?.expose().as_bytes();
            let hash = md5_hash(settings.user.as_bytes(), secret, salt);
            send_password(connection, hash.as_bytes()).await?;
        }
        SASL => scram(connection, settings, &body).await?,
        _ => {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the server asks for another way to log in",
            )
            .with("user", &settings.user)
            .remedied("let pg_hba.conf ask this user for scram-sha-256"));
        }
    }
    match challenge(connection).await? {
        (OK, _) => Ok(()),
        _ => Err(unexpected("authentication")),
    }
}

async fn scram(
    connection: &mut ReplicationConnection,
    settings: &Settings,
    offered: &[u8],
) -> Result<()> {
    let name = SCRAM_SHA_256.as_bytes();
    if !offered.split(|byte| *byte == 0).any(|mechanism| mechanism == name) {
        return Err(Error::new(ErrorKind::Unsupported, "the server offers no SCRAM-SHA-256"));
    }
    let secret = password(settings)?.expose().as_bytes();
    let mut scram = ScramSha256::new(secret, ChannelBinding::unsupported());
    frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut connection.out)
        .map_err(|error| bad_text(&error))?;
    connection.flush().await?;
    let (SASL_CONTINUE, body) = challenge(connection).await? else {
        return Err(unexpected("authentication"));
    };
    scram.update(&body).map_err(failed)?;
    frontend::sasl_response(scram.message(), &mut connection.out)
        .map_err(|error| bad_text(&error))?;
    connection.flush().await?;
    let (SASL_FINAL, body) = challenge(connection).await? else {
        return Err(unexpected("authentication"));
    };
    scram.finish(&body).map_err(failed)
}

fn failed(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Auth, "the server's proof of identity does not hold").caused_by(error)
}

async fn send_password(connection: &mut ReplicationConnection, password: &[u8]) -> Result<()> {
    frontend::password_message(password, &mut connection.out).map_err(|error| bad_text(&error))?;
    connection.flush().await
}

fn password(settings: &Settings) -> Result<&Secret> {
    settings.password.as_ref().ok_or_else(|| {
        Error::new(ErrorKind::Auth, "the server asks for a password and none is given")
            .with("user", &settings.user)
            .remedied("name it: `password: {env: PGPASSWORD}`")
    })
}

async fn challenge(connection: &mut ReplicationConnection) -> Result<(u32, Vec<u8>)> {
    let (tag, body) = connection.receive(Step::Login).await?;
    match body.split_first_chunk::<4>() {
        Some((code, rest)) if tag == b'R' => Ok((u32::from_be_bytes(*code), rest.to_vec())),
        _ => Err(unexpected("authentication")),
    }
}
