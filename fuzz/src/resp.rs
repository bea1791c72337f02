//! The parser of RESP of the example `resp_server`.

#[path = "../../examples/resp/number.rs"]
mod number;
#[path = "../../examples/resp/request.rs"]
pub(crate) mod request;
