//! Bodies of answers: whole ones, and ones that are produced while they are sent.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::HeaderMap;
use hyper::body::Frame;
use hyper::header::{HeaderName, HeaderValue};
use tokio::sync::mpsc;

use crate::server::memory::Charge;

/// The body of an answer.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Returns a body that is in memory.
pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    let never = |error: Infallible| match error {};
    Full::new(bytes.into()).map_err(never).boxed_unsync()
}

/// Returns a body that is in memory, whose memory is charged until it is sent.
pub(super) fn charged(bytes: impl Into<Vec<u8>>, charge: Charge) -> Body {
    full(charged_bytes(bytes.into(), charge))
}

fn charged_bytes(bytes: Vec<u8>, charge: Charge) -> Bytes {
    struct Charged {
        bytes: Vec<u8>,
        _charge: Charge,
    }
    impl AsRef<[u8]> for Charged {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    Bytes::from_owner(Charged {
        bytes,
        _charge: charge,
    })
}

/// Sends the parts of a body. Waits while the client does not read.
pub(super) struct Parts(mpsc::Sender<Frame<Bytes>>);

impl Parts {
    /// Sends a part, whose memory is taken from `charge` until it is sent.
    pub(super) async fn send(&self, part: impl Into<Vec<u8>>, charge: &mut Charge) {
        let part = part.into();
        let charge = charge.split(part.len());
        // The producer ends with its body, so the receiver is there.
        let _ = self.0.send(Frame::data(charged_bytes(part, charge))).await;
    }

    /// Sends a field after the body. Only clients that have said `TE: trailers` get it.
    pub(super) async fn send_trailer(&self, name: &'static str, value: u64) {
        let name = HeaderName::from_static(name);
        let trailers = HeaderMap::from_iter([(name, HeaderValue::from(value))]);
        let _ = self.0.send(Frame::trailers(trailers)).await;
    }
}

/// Returns a body that `produce` makes while it is sent: it runs only when the connection can take
/// more, and ends with the connection. An error breaks the body off, which the client notices.
pub(super) fn produced<F>(produce: impl FnOnce(Parts) -> F) -> Body
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let (sender, parts) = mpsc::channel(1);
    Produced {
        producer: Some(Box::pin(produce(Parts(sender)))),
        parts,
    }
    .boxed_unsync()
}

struct Produced {
    /// `None` once it has ended.
    producer: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send>>>,
    parts: mpsc::Receiver<Frame<Bytes>>,
}

impl hyper::body::Body for Produced {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Poll::Ready(part @ Some(_)) = self.parts.poll_recv(context) {
            return Poll::Ready(part.map(Ok));
        }
        if let Some(producer) = &mut self.producer
            && let Poll::Ready(result) = producer.as_mut().poll(context)
        {
            self.producer = None;
            if let Err(error) = result {
                return Poll::Ready(Some(Err(error)));
            }
        }
        self.parts.poll_recv(context).map(|part| part.map(Ok))
    }
}
