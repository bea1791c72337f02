// What the example `http_server` is made of beside its protocol: what a request says, and the answers.

mod answer;
mod authority;
#[allow(dead_code)] // What is of answers alone: bodies that end with their connection, and their lengths.
mod body;
mod request;
mod skipped;

pub(crate) use answer::{Answers, Status, Then};
pub(crate) use body::Body;
pub(crate) use request::{Heading, Request};
pub(crate) use skipped::Skipped;
