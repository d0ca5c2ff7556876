//! The codec of all calls: protobuf, with buffers that begin small. A controller keeps a stream for each of thousands of agents, on which
//! little is said; tonic's usual 16 KiB a stream would be a fifth of what an agent costs. Larger messages make their buffer grow.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// What a stream's buffers begin with, and grow by, in bytes.
const BUFFER: usize = 1 << 10;
/// What may be ready before it is sent, in bytes: tonic's own.
const SEND_FROM: usize = 32 << 10;

/// Encodes `T` and decodes `U`.
#[derive(Clone, Copy, Debug)]
pub struct SmallBuffers<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for SmallBuffers<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

fn buffers() -> BufferSettings {
    BufferSettings::new(BUFFER, SEND_FROM)
}

impl<T: Message + Send + 'static, U: Message + Default + Send + 'static> Codec for SmallBuffers<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(buffers())
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(buffers())
    }
}
