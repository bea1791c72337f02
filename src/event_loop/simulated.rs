//! What a simulated loop receives in place of what the system would send: signals.

use std::any::Any;
use std::io;

use crate::{Context, SourceId, UnixAddress};

/// Called with the number of a signal.
type SignalHandler = Box<dyn FnMut(&mut Context<'_>, i32)>;

impl Context<'_> {
    /// Makes the loop call the handler when the test of a simulated loop raises one of these signals. In any other
    /// loop, returns the handler. Not part of the public interface.
    #[doc(hidden)]
    pub fn simulated_signals(
        &mut self,
        signals: &[i32],
        handler: SignalHandler,
    ) -> Result<io::Result<SourceId>, SignalHandler> {
        match self.core.parts.poller.signals(signals, &UnixAddress::Unnamed.into()) {
            Ok(pipe) => Ok(wait_for(self, pipe, handler)),
            Err(_) => Err(handler),
        }
    }
}

#[cfg(feature = "testing")]
fn wait_for(context: &mut Context<'_>, pipe: Box<dyn Any>, mut handler: SignalHandler) -> io::Result<SourceId> {
    use std::io::Read;

    use mio::Interest;

    use crate::SourceAction;
    use crate::testing::SimulatedPipe;

    let pipe = *pipe.downcast::<SimulatedPipe>().map_err(|_| io::ErrorKind::Unsupported)?;
    context.register(pipe, Interest::READABLE, move |context, pipe, _| {
        let mut signal = [0];
        match pipe.read(&mut signal) {
            Ok(1) => {
                handler(context, signal[0].into());
                SourceAction::Again
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => SourceAction::Again,
            _ => SourceAction::Wait,
        }
    })
}

/// This build does not include simulation.
#[cfg(not(feature = "testing"))]
fn wait_for(_: &mut Context<'_>, _: Box<dyn Any>, _: SignalHandler) -> io::Result<SourceId> {
    Err(io::ErrorKind::Unsupported.into())
}
