//! Calls that last: a stream whose caller loses its right meanwhile is ended at once, not at its next message.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use tonic::Status;

use crate::rule::Denied;

/// Ends when the caller's certificate is revoked or runs out, with which of the two.
pub(crate) type Ended = Pin<Box<dyn Future<Output = Denied> + Send>>;

/// A response's body that ends early, with a status, when `ended` does.
pub(crate) struct Lasting<F> {
    body: tonic::body::Body,
    ended: Ended,
    refuse: F,
    over: bool,
}

impl<F> Lasting<F> {
    pub(crate) fn new(body: tonic::body::Body, ended: Ended, refuse: F) -> Self {
        Self { body, ended, refuse, over: false }
    }
}

impl<F: Fn(&Denied) -> Status + Unpin> Body for Lasting<F> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(denied) = self.ended.as_mut().poll(cx) {
            self.over = true;
            let status = (self.refuse)(&denied);
            let mut trailers = HeaderMap::new();
            // A status that does not fit into headers is told as the failure that tonic makes of it.
            return Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }
}
