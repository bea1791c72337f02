use std::io;
use std::time::Duration;

use switchboard::EventLoop;

fn main() -> io::Result<()> {
    let mut event_loop = EventLoop::new()?;
    event_loop.context().call_every(Duration::from_secs(1), |_, _| println!("tick"));
    event_loop.context().call_later(Duration::from_millis(3500), |context| context.stop());
    event_loop.run()
}
