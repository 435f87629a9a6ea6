//! `/metrics` and `/healthz` on a loopback address, where the pipeline file asks for it.
//!
//! Deliberately absent: authentication and anything that changes something; that is the control socket's.
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use lakeward_core::{Error, ErrorKind, Result};
use lakeward_engine::supervise::Statuses;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::metrics;

/// More connections wait their turn.
const CONNECTIONS_MAX: usize = 16;

/// A client that has not sent its request by then is cut off.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection ends after this time, so that idle ones free their turn.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(60);

/// Binds the address.
///
/// # Errors
/// `Config` naming the address.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        Error::new(ErrorKind::Config, "metrics cannot be served at this address")
            .with("listen", address)
            .caused_by(error)
            .remedied("choose a free port as `pipeline.http.listen`")
    })
}

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener, pipeline: String, statuses: Arc<Statuses>) {
    let turns = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let pipeline: Arc<str> = pipeline.into();
    loop {
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (pipeline, statuses) = (Arc::clone(&pipeline), Arc::clone(&statuses));
        tokio::spawn(async move {
            let answer = service_fn(move |request: Request<Incoming>| {
                let response =
                    respond(request.method(), request.uri().path(), &pipeline, &statuses);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), answer);
            _ = tokio::time::timeout(CONNECTION_TIME_MAX, connection).await;
            drop(turn);
        });
    }
}

fn respond(
    method: &Method,
    path: &str,
    pipeline: &str,
    statuses: &Statuses,
) -> Response<Full<Bytes>> {
    let (code, kind, body) = match (method, path) {
        (&Method::GET, "/metrics") => (
            StatusCode::OK,
            metrics::CONTENT_TYPE,
            metrics::render(pipeline, &statuses.snapshots()),
        ),
        (&Method::GET, "/healthz") => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "text/plain", "/metrics or /healthz\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}
