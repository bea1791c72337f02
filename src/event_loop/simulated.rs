//! What comes to a simulated loop in place of what the system would send: signals.

use std::any::Any;
use std::io;

use crate::{Context, SourceId, UnixAddress};

/// Is called with a signal's number.
type SignalHandler = Box<dyn FnMut(&mut Context<'_>, i32)>;

impl Context<'_> {
    /// Has the handler called when the test of a simulated loop raises one of these signals; gives it back in any other loop.
    /// Not part of the public interface.
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

/// Nothing is simulated in this build.
#[cfg(not(feature = "testing"))]
fn wait_for(_: &mut Context<'_>, _: Box<dyn Any>, _: SignalHandler) -> io::Result<SourceId> {
    Err(io::ErrorKind::Unsupported.into())
}
