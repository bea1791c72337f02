// The parts of the example `http_server` besides its protocol: parsing requests, and building responses.

mod answer;
mod authority;
#[allow(dead_code)] // The parts for responses only: bodies that end with their connection, and lengths.
mod body;
pub(crate) mod head;
mod refused;
mod request;
mod scan;
mod skipped;

pub(crate) use answer::{Responses, SharedResponses, Status, Then, answer};
pub(crate) use body::Body;
pub(crate) use refused::Refused;
pub(crate) use request::{Heading, Request};
pub(crate) use skipped::Skipped;
