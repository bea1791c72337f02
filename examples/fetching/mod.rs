// What the example `fetch` is made of beside its protocol: the arguments, the two halves of an answer, where it goes, and
// the links in it.

#[allow(dead_code)] // What is of requests.
mod body;
mod head;
mod links;
mod options;
mod output;

pub(crate) use body::Body;
pub(crate) use head::Head;
pub(crate) use links::find_links;
pub(crate) use options::Options;
pub(crate) use output::{Destination, Output, SavedFile, Work};
