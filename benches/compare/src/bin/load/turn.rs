//! A turn: so many seconds or messages of load on a server, and what they cost it.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::Timespec;

use crate::result::{Doing, Failure, Result};
use crate::server::Server;

/// Latencies are told apart up to here.
const LATENCY_MAX: Duration = Duration::from_secs(600);
const PERCENTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)];

/// What puts load on a server.
pub trait Load {
    /// Takes a turn: begins with nothing under way, and ends so.
    fn take(&mut self, turn: &mut Turn) -> Result<()>;

    /// Ends all connections in order, and sees that the server does too.
    fn finish(&mut self, deadline: Deadline) -> Result<()>;
}

/// When it is no longer of use to wait.
#[derive(Clone, Copy)]
pub struct Deadline {
    at: Instant,
    of: Duration,
}

impl Deadline {
    pub fn after(limit: Duration) -> Self {
        Self { at: Instant::now() + limit, of: limit }
    }

    /// The time that is left; none is a failure.
    pub fn left(&self) -> Result<Timespec> {
        let left = self.at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::new(format!("the server has not answered all after {:?}", self.of)));
        }
        left.try_into().doing(|| "the time to wait".into())
    }
}

/// How far a turn goes. No message is begun once it is over; those under way are waited for.
#[derive(Clone, Copy)]
pub struct Bounds {
    seconds: Option<f64>,
    count: Option<u64>,
    limit: Duration,
}

impl Bounds {
    /// `limit` is for what is under way when the time is up and, with no time given, for all.
    pub fn new(seconds: Option<f64>, count: Option<u64>, limit: Duration) -> Self {
        Self { seconds, count, limit }
    }
}

/// A turn that is being taken.
pub struct Turn {
    server: Option<Server>,
    cpu_before: u64,
    start: Instant,
    ends: Option<Instant>,
    /// How many messages may yet begin.
    left: u64,
    deadline: Deadline,
    messages: u64,
    bytes: u64,
    latencies_ns: Histogram<u64>,
}

impl Turn {
    pub fn start(bounds: Bounds, server: Option<Server>) -> Result<Self> {
        let cpu_before = server.map_or(Ok(0), |server| server.cpu_ns_at_rest())?;
        let latencies_ns = Histogram::new_with_bounds(1, LATENCY_MAX.as_nanos() as u64, 3);
        let time = bounds.seconds.map(Duration::from_secs_f64);
        let start = Instant::now();
        Ok(Self {
            server,
            cpu_before,
            start,
            ends: time.map(|time| start + time),
            left: bounds.count.unwrap_or(u64::MAX),
            deadline: Deadline::after(time.unwrap_or_default() + bounds.limit),
            messages: 0,
            bytes: 0,
            latencies_ns: latencies_ns.doing(|| "the histogram".into())?,
        })
    }

    pub fn start_time(&self) -> Instant {
        self.start
    }

    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// Whether so many messages more may begin; those that come together are refused together.
    pub fn may_begin(&mut self, messages: u64, now: Instant) -> bool {
        if self.left < messages || self.ends.is_some_and(|ends| now >= ends) {
            self.left = 0;
            return false;
        }
        self.left -= messages;
        true
    }

    /// Messages have come back, each byte of them verified.
    pub fn done(&mut self, messages: u64, bytes: u64) {
        self.messages += messages;
        self.bytes += bytes;
    }

    pub fn took(&mut self, latency: Duration) {
        self.latencies_ns.saturating_record(latency.as_nanos() as u64);
    }

    pub fn finish(self) -> Result<serde_json::Value> {
        let seconds = self.start.elapsed().as_secs_f64();
        if self.messages == 0 {
            return Err(Failure::new("not one message fits the bounds"));
        }
        let microseconds = |ns: u64| ns as f64 / 1_000.0;
        let mut latency = serde_json::Map::new();
        for (name, quantile) in PERCENTILES {
            latency.insert(name.into(), microseconds(self.latencies_ns.value_at_quantile(quantile)).into());
        }
        latency.insert("max".into(), microseconds(self.latencies_ns.max()).into());
        let mut found = serde_json::json!({
            "messages": self.messages,
            "bytes": self.bytes,
            "seconds": seconds,
            "latency_us": latency,
        });
        if let Some(server) = self.server {
            found["server_cpu_s"] = ((server.cpu_ns_at_rest()? - self.cpu_before) as f64 / 1e9).into();
        }
        Ok(found)
    }
}
