//! A turn: some seconds or messages of load on a server, and what they cost it.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::Timespec;

use crate::result::{Doing, Failure, Result};
use crate::server::Server;

/// The longest latency that is recorded exactly.
const LATENCY_MAX: Duration = Duration::from_secs(600);
const PERCENTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)];

/// A workload for a server.
pub trait Load {
    /// Takes a turn: begins and ends with nothing in flight.
    fn take(&mut self, turn: &mut Turn) -> Result<()>;

    /// Ends all connections in order, and checks that the server does too.
    fn finish(&mut self, deadline: Deadline) -> Result<()>;
}

/// When waiting is given up.
#[derive(Clone, Copy)]
pub struct Deadline {
    at: Instant,
    of: Duration,
}

impl Deadline {
    pub fn after(limit: Duration) -> Self {
        Self { at: Instant::now() + limit, of: limit }
    }

    /// Returns the time that is left, or an error if there is none.
    pub fn left(&self) -> Result<Timespec> {
        let left = self.at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::new(format!("the server has not answered all after {:?}", self.of)));
        }
        left.try_into().doing(|| "the time to wait".into())
    }
}

/// The extent of a turn. No message is begun once it is over; those in flight are waited for.
#[derive(Clone, Copy)]
pub struct Bounds {
    seconds: Option<f64>,
    count: Option<u64>,
    limit: Duration,
}

impl Bounds {
    /// `limit` is the time for what is in flight when the time is up and, without a given time, for everything.
    pub fn new(seconds: Option<f64>, count: Option<u64>, limit: Duration) -> Self {
        Self { seconds, count, limit }
    }
}

/// A turn in progress.
pub struct Turn {
    server: Option<Server>,
    cpu_before: u64,
    start: Instant,
    ends: Option<Instant>,
    /// How many more messages may begin.
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

    /// Returns whether this many more messages may begin; they are refused all together.
    pub fn may_begin(&mut self, messages: u64, now: Instant) -> bool {
        if self.left < messages || self.ends.is_some_and(|ends| now >= ends) {
            self.left = 0;
            return false;
        }
        self.left -= messages;
        true
    }

    /// Records that messages have come back, with each byte verified.
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
