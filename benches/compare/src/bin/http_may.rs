//! may_minihttp: coroutines, several requests of one read answered at once, as in its own examples.
//!
//! - It binds to an address itself and does not return its socket, so the port is one that was free a moment before.
//! - `GET /` is answered with a short text, anything else with 404.

use std::io;

use may_minihttp::{HttpServer, HttpService, Request, Response};
use switchboard_compare::{announce, http};

#[derive(Clone)]
struct Greeting;

impl HttpService for Greeting {
    fn call(&mut self, request: Request, response: &mut Response) -> io::Result<()> {
        if request.path() == "/" {
            response.body(http::FOUND);
        } else {
            response.status_code(404, "Not Found").body(http::NOT_FOUND);
        }
        Ok(())
    }
}

fn main() -> io::Result<()> {
    let (_, listener) = http::arguments()?;
    let address = listener.local_addr()?;
    drop(listener);
    let server = HttpServer(Greeting).start(address)?;
    announce(address)?;
    server.wait();
    Ok(())
}
