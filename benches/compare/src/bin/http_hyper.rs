//! hyper, on tokio's current-thread runtime: a task for each connection, as in hyper's own examples.
//!
//! - The settings are hyper's own, but for two that are off in hyper: with `half-close` a connection whose client has
//!   ended its stream is kept until it is answered (`half_close`), with `pipeline-flush` the answers to requests that
//!   arrived together are sent together (`pipeline_flush`).
//! - `GET /` is answered with a short text, anything else with 404.

use std::convert::Infallible;
use std::io;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use switchboard_compare::{announce, http};
use tokio::net::TcpListener;
use tokio::runtime::Builder;

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, text) = match request.uri().path() {
        "/" => (StatusCode::OK, http::FOUND),
        _ => (StatusCode::NOT_FOUND, http::NOT_FOUND),
    };
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    Ok(response)
}

async fn serve(listener: TcpListener, half_close: bool, pipeline_flush: bool) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut builder = http1::Builder::new();
            builder.half_close(half_close).pipeline_flush(pipeline_flush);
            // An error ends this connection.
            let _ = builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
        });
    }
}

fn main() -> io::Result<()> {
    let (mode, listener) = http::arguments()?;
    announce(listener.local_addr()?)?;
    listener.set_nonblocking(true)?;
    Builder::new_current_thread().enable_io().build()?.block_on(async {
        serve(TcpListener::from_std(listener)?, mode == "half-close", mode == "pipeline-flush").await
    })
}
