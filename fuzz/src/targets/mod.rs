//! The targets, a file each.

pub mod chunks;
pub mod endpoint;
pub mod event_loop;
pub mod fetch_head;
pub mod frames;
pub mod http;
pub mod lines;
pub mod mqtt;
pub mod proxy;
pub mod resp;
pub mod service;
pub mod smtp;
pub mod telnet;
pub mod tls;
